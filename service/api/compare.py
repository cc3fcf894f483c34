"""The route that sets runs side by side."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from service import charts, compare, curves, runs
from service.api import formats
from service.api.access import Reader
from service.api.answers import Json
from service.api.formats import Format, Wanted, Width
from service.api.listings import Filtered
from service.api.place import Here
from service.api.runs import MetricName, PointCount, Smoothing, columns
from service.api.strict_route import StrictRoute
from service.api.views import ComparisonView
from service.compare import Compared, Comparison, Entry
from service.curves import Axis
from service.errors import FieldProblem, InvalidInput
from service.ids import is_id
from service.runs import Filter, Subject
from service.states import TERMINAL
from service.users import Principal

router = APIRouter(prefix="/v1", tags=["runs"], route_class=StrictRoute)

MOST_RUNS = 50
LONGEST_NAME = 40


@router.get("/compare", responses={200: {"model": ComparisonView}})
def compare_runs(
    here: Here,
    principal: Reader,
    filtered: Filtered,
    form: Wanted,
    metric: MetricName,
    run_ids: Annotated[
        str | None, Query(alias="runs", max_length=4000, description="ids, separated by commas; or use the filters")
    ] = None,
    x: Axis = Axis.STEP,
    points: PointCount = 1000,
    smooth: Smoothing = 0,
    target: Annotated[float | None, Query(allow_inf_nan=False, description="a value of the metric to reach")] = None,
    width: Width = 100,
) -> Response:
    """Runs side by side by one metric: what differs between them, their curves, and which did best.

    At most 50 runs: those named, or the newest that match the filters.
    """
    with here.database.read() as session:
        subjects = _subjects(session, principal, run_ids, filtered)
        entries = _entries(session, subjects, metric, x, points)
    found = compare.compare(metric, x, entries, target=target, smoothing=smooth)
    if form is Format.TEXT:
        return formats.text(_text(found, width))
    if form is Format.CSV:
        return formats.table(*_table(found), form, width)
    views = [_view(run, found) for run in found.runs]
    if form is Format.NDJSON:
        return formats.lines(views)
    return Json(
        {
            "metric": found.metric,
            "direction": found.direction.value,
            "x": found.x.value,
            "differing_parameters": found.differing_parameters,
            "runs": views,
            "warnings": found.warnings,
        }
    )


def _subjects(session: Session, principal: Principal, run_ids: str | None, filtered: Filter) -> list[Subject]:
    if run_ids is None:
        return runs.newest_subjects(session, principal, filtered, MOST_RUNS)
    ids = list(dict.fromkeys(part.strip() for part in run_ids.split(",") if part.strip()))
    if filtered != Filter():
        raise InvalidInput([FieldProblem("runs", "exclusive", "name runs or give filters, not both")])
    if not 1 <= len(ids) <= MOST_RUNS:
        raise InvalidInput([FieldProblem("runs", "too_many_runs", f"between 1 and {MOST_RUNS} runs can be compared")])
    if not all(map(is_id, ids)):
        raise InvalidInput([FieldProblem("runs", "invalid_id", "ids are separated by commas")])
    return runs.subjects(session, principal, ids)


def _entries(session: Session, subjects: list[Subject], metric: str, axis: Axis, points: int) -> list[Entry]:
    recorded = curves.find(session, [subject.seq for subject in subjects])
    entries = []
    for subject in subjects:
        metrics = recorded.get(subject.seq, {})
        summary = metrics.get(metric)
        curve = curves.read(session, summary, points) if summary is not None else None
        entries.append(
            Entry(
                run_id=subject.id,
                name=subject.name,
                parameters=subject.parameters,
                metrics=metrics.keys(),
                summary=summary,
                curve=curve,
                x=None if curve is None else curves.along(axis, curve.step, curve.time, subject.plan),
                running=subject.status not in TERMINAL,
            )
        )
    return entries


def _view(run: Compared, found: Comparison) -> dict[str, Any]:
    curve = run.curve
    return {
        "run_id": run.run_id,
        "name": run.name,
        "parameters": run.parameters,
        "curve": curve
        and {
            "metric": found.metric,
            "x": found.x.value,
            "count": curve.count,
            "downsampled": curve.downsampled,
            "points": columns(curve, run.x, run.y),
        },
        "summary": run.summary,
        "rank": run.rank,
    }


def _table(found: Comparison) -> tuple[list[str], formats.Rows]:
    short = [name.rpartition(".")[2] for name in found.differing_parameters]
    names = [
        full if short.count(last) > 1 else last for full, last in zip(found.differing_parameters, short, strict=True)
    ]
    headers = ["rank", "run_id", "name", *names, "best", f"best_at_{found.x.value}", "last", "tail_mean", "to_target"]
    return headers, [_row(run, found.differing_parameters) for run in _by_rank(found)]


def _row(run: Compared, differing: list[str]) -> list[formats.Cell]:
    chosen = [_cell(run.parameters.get(name)) for name in differing]
    outcome = run.summary
    numbers: list[formats.Cell] = [None] * 5
    if outcome is not None:
        numbers = [outcome.best, outcome.best_at, outcome.last, outcome.tail_mean, outcome.to_target]
    return [run.rank, run.run_id, run.name, *chosen, *numbers]


def _cell(value: Any) -> formats.Cell:
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _by_rank(found: Comparison) -> list[Compared]:
    return sorted(found.runs, key=lambda run: (run.rank is None, run.rank))


def _text(found: Comparison, width: int) -> str:
    headers, rows = _table(found)
    lines = [
        charts.Line(_label(run, found.differing_parameters), run.x, run.y)
        for run in _by_rank(found)
        if run.x is not None and run.y is not None
    ]
    drawn = charts.line_chart(lines, width, x_label=found.x.value, y_label=found.metric)
    notes = "".join(f"{note['code']}: {note['message']}\n" for note in found.warnings)
    return f"{charts.table(headers, rows, width)}\n{drawn}" + (f"\n{notes}" if notes else "")


def _label(run: Compared, differing: list[str]) -> str:
    """What tells a curve from the others: what differs, else the name."""
    told = ", ".join(f"{name.rpartition('.')[2]}={run.parameters.get(name)}" for name in differing[:2])
    return told or run.name[:LONGEST_NAME]

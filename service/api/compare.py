"""The route that sets runs side by side."""

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from service import compare, curves, subjects
from service.api import compared, formats
from service.api.access import Reader
from service.api.answers import Json, columns_once
from service.api.delivery import Delivered, Delivery
from service.api.formats import Format, WantedDrawing, Width
from service.api.listings import Filtered
from service.api.place import Here
from service.api.runs import Logarithmic, MetricName, PointCount, Smoothing
from service.api.shown_curves import along, beside, columns
from service.api.strict_route import StrictRoute
from service.api.views.compare import ComparisonView
from service.compare import Compared, Comparison, Entry, Ranked
from service.curves import Axis, Curve, Summary
from service.errors import FieldProblem, InvalidInput
from service.ids import is_id
from service.runs import Filter
from service.states import TERMINAL
from service.subjects import Subject
from service.users import Principal

router = APIRouter(prefix="/v1", tags=["runs"], route_class=StrictRoute)

MOST_RUNS = 50
FEWEST_JUDGED = 1000  # points of a curve that its ends, its verdicts and its way to a target are found with
LEFT_OUT = {
    "code": "only_the_newest",
    "message": f"more than {MOST_RUNS} runs match the filters: these are the newest",
}


@router.get("/compare", responses={200: {"model": ComparisonView}, 304: {"description": "the client has it"}})
def compare_runs(
    here: Here,
    principal: Reader,
    filtered: Filtered,
    form: WantedDrawing,
    delivery: Delivered,
    metric: MetricName,
    run_ids: Annotated[
        str | None, Query(alias="runs", max_length=4000, description="ids, separated by commas; or use the filters")
    ] = None,
    x: Axis = Axis.STEP,
    points: PointCount = 1000,
    smooth: Smoothing = 0,
    target: Annotated[float | None, Query(allow_inf_nan=False, description="a value of the metric to reach")] = None,
    group_by: Annotated[
        str | None, Query(max_length=256, description="a parameter: the runs with one value of it become one curve")
    ] = None,
    log: Logarithmic = None,
    width: Width = 100,
) -> Response:
    """Runs side by side by one metric: what differs between them, their curves, and which did best.

    At most 50 runs: those named, or the newest that match the filters, `tag.KEY=VALUE` and `param.NAME=VALUE` too.
    With `group_by` the runs that differ in their seed alone become one curve with a band, and `verdicts` say which
    differences are more than chance.
    """
    with here.database.read() as session:
        chosen = _subjects(session, principal, run_ids, filtered)
        subjects = chosen[:MOST_RUNS]
        recorded = curves.find(session, [subject.seq for subject in subjects])
        tag = _tag(delivery, chosen, recorded)
        if (unchanged := delivery.unchanged(tag)) is not None:
            return unchanged
        entries = _entries(session, subjects, recorded, metric, x, points)
    with np.errstate(all="ignore"):  # what overflows becomes an infinity, which answers can say
        found = compare.compare(
            metric, x, entries, target=target, smoothing=smooth, group_by=group_by, points=points
        )  # fmt: skip
    if len(chosen) > MOST_RUNS:
        found = replace(found, warnings=[LEFT_OUT, *found.warnings])
    if form in formats.TABULAR:
        return delivery.send(_tabular(found, form, width), tag)
    drawn = compared.columns_of(found) if form is Format.PARQUET else compared.picture(found, form, target, log)
    return delivery.send(formats.drawn(here.studio.make(drawn), form), tag)


def _subjects(session: Session, principal: Principal, run_ids: str | None, filtered: Filter) -> list[Subject]:
    """The runs to be compared, and one more where more than can be compared match the filters."""
    if run_ids is None:
        return subjects.newest(session, principal, filtered, MOST_RUNS + 1)
    ids = list(dict.fromkeys(part.strip() for part in run_ids.split(",") if part.strip()))
    if filtered != Filter():
        raise InvalidInput([FieldProblem("runs", "exclusive", "name runs or give filters, not both")])
    if not 1 <= len(ids) <= MOST_RUNS:
        raise InvalidInput([FieldProblem("runs", "too_many_runs", f"between 1 and {MOST_RUNS} runs can be compared")])
    if (wrong := next((place for place, each in enumerate(ids, start=1) if not is_id(each)), None)) is not None:
        message = f"number {wrong} is no id: ids are separated by commas"
        raise InvalidInput([FieldProblem("runs", "invalid_id", message)])
    return subjects.named(session, principal, ids)


def _tag(delivery: Delivery, subjects: list[Subject], recorded: dict[int, dict[str, Summary]]) -> str | None:
    """None while any of the runs goes on: then the answer is another each time."""
    if any(subject.status not in TERMINAL for subject in subjects):
        return None
    counts = [[(each.metric, each.count) for each in recorded.get(subject.seq, {}).values()] for subject in subjects]
    return delivery.tag([(subject.id, subject.name) for subject in subjects], counts)


def _entries(
    session: Session,
    subjects: list[Subject],
    recorded: dict[int, dict[str, Summary]],
    metric: str,
    axis: Axis,
    points: int,
) -> list[Entry]:
    """points: that are shown of a curve. What is said of it does not depend on them."""
    logged = [found[metric] for each in subjects if metric in (found := recorded.get(each.seq, {}))]

    def read(most: int) -> dict[int, Curve]:
        return dict(zip((each.run for each in logged), curves.read_all(session, logged, most), strict=True))

    judged = read(max(points, FEWEST_JUDGED))
    drawn = read(points) if points < FEWEST_JUDGED else {}
    return [
        _entry(each, recorded.get(each.seq, {}), judged.get(each.seq), drawn.get(each.seq), metric, axis)
        for each in subjects
    ]


def _entry(
    subject: Subject,
    recorded: dict[str, Summary],
    curve: Curve | None,
    drawn: Curve | None,
    metric: str,
    axis: Axis,
) -> Entry:
    axes = {}
    if curve is not None:
        axes = {each: along(subject, each, curve) for each in {*subject.counting.available, axis}}
    return Entry(
        run_id=subject.id,
        name=subject.name,
        parameters=subject.parameters,
        metrics=recorded.keys(),
        summary=recorded.get(metric),
        curve=curve,
        x=axes.get(axis),
        running=subject.status not in TERMINAL,
        axes=axes,
        drawn=None if drawn is None else (drawn, along(subject, axis, drawn)),
    )


def _tabular(found: Comparison, form: Format, width: int) -> Response:
    if form is Format.TEXT:
        return formats.text(compared.text(found, width))
    if form is Format.CSV:
        return formats.table(*compared.table(found), form, width)
    views = [_view(run, found) for run in found.runs]
    groups = [_group(each) for each in found.groups]
    if form is Format.NDJSON:
        return formats.lines(groups or views)
    return Json(
        {
            "metric": found.metric,
            "direction": found.direction.value,
            "x": found.x.value,
            "group_by": found.grouped_by,
            "differing_parameters": found.differing_parameters,
            "runs": views,
            "groups": groups,
            "verdicts": found.verdicts,
            "warnings": found.warnings,
        }
    )


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
            "beside": beside(curve),
            "points": columns_once(columns(curve, run.x, run.y)),
        },
        "summary": run.summary,
        "rank": run.rank,
    }


def _group(ranked: Ranked) -> dict[str, Any]:
    group, curve = ranked.group, ranked.group.curve
    return {
        "key": group.key,
        "run_ids": [entry.run_id for entry in group.entries],
        "curve": curve
        and {
            "x": curve.x,
            "mean": curve.band.mean,
            "lower": curve.band.lower,
            "upper": curve.band.upper,
            "method": curve.band.method,
        },
        "summary": group.summary,
        "rank": ranked.rank,
    }

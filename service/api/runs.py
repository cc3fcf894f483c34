"""Routes for runs and their curves."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from service import charts, curves, runs
from service.api import formats, whole_curves
from service.api.access import Reader
from service.api.answers import Json, encode
from service.api.delivery import Delivered
from service.api.formats import Format, Wanted, WantedDrawing, Width
from service.api.listings import Page
from service.api.paths import RunId
from service.api.place import Here
from service.api.strict_route import StrictRoute
from service.api.views.runs import CurveList, RunList, WholeRun
from service.api.whole_curves import Whole
from service.curves import Axis, Curve, Summary
from service.errors import NotFound
from service.pictures import CurveFile, Line, Panel, Picture
from service.runs import Subject
from service.sent import METRIC_PATTERN
from service.states import TERMINAL, Direction
from service.tasks import TRAINER_METRICS

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=StrictRoute)

MetricName = Annotated[str, Query(pattern=METRIC_PATTERN)]
PointCount = Annotated[int, Query(ge=1, le=10_000, description="the most points of a curve; from 10 on it is kept")]
Smoothing = Annotated[float, Query(ge=0, le=0.999, description="weight of the moving average; 0 shows y as it is")]
StepBound = Annotated[int | None, Query(ge=-(2**63), lt=2**63)]
Logarithmic = Annotated[bool | None, Query(description="of pictures: a logarithmic y axis; by default where it helps")]
FIXED = ["id", "name", "status", "user", "project", "created_at", "duration_seconds"]
CURVE_TABLE = ["metric", "step", "x", "y", "min", "max"]
X_LABELS = {
    Axis.STEP: "step",
    Axis.EPOCH: "epoch",
    Axis.SAMPLES: "training samples seen",
    Axis.TIME: "training time (s)",
    Axis.GPU_SECONDS: "GPU time (s)",
}
MOST_PANELS = 6


@router.get("", responses={200: {"model": RunList}})
def list_runs(
    here: Here,
    principal: Reader,
    page: Page,
    form: Wanted,
    sort: Annotated[str, Query(max_length=200, description="-created_at, created_at, METRIC.best, METRIC.last")] = (
        "-created_at"
    ),
    width: Width = 120,
) -> Response:
    """Runs, newest first or by a metric; as a table with the best value of each metric."""
    with here.database.read() as session:
        found = runs.page(session, principal, page.filter, after=page.after, limit=page.fetched, sort=sort)
    metrics = _in_order({metric for run in found for metric in run["metrics"]}, sort.removeprefix("-"))
    headers = [*FIXED, *(f"{metric}.{_shown(found, metric)}" for metric in metrics)]
    rows = [[*(run[name] for name in FIXED), *(_value(run, metric) for metric in metrics)] for run in found]
    return formats.listing(found, page.limit, form, headers, rows, width)


def _in_order(metrics: set[str], sort: str) -> list[str]:
    """What the runs are sorted by first, then what counts most: a table that is too wide loses its right end."""

    def place(metric: str) -> tuple[bool, bool, bool, bool, str]:
        sorted_by = sort in (f"{metric}.best", f"{metric}.last")
        judged = curves.direction(metric) is not Direction.NONE
        return not sorted_by, not judged, not metric.startswith("val_"), metric != "val_loss", metric

    return sorted(metrics, key=place)


def _shown(found: list[dict[str, Any]], metric: str) -> str:
    """What a table shows of a metric: its best value, or its last where no direction is better."""
    summary = next(run["metrics"][metric] for run in found if metric in run["metrics"])
    return "last" if summary["direction"] == "none" else "best"


def _value(run: dict[str, Any], metric: str) -> formats.Cell:
    summary = run["metrics"].get(metric)
    if summary is None:
        return None
    value: formats.Cell = summary["last" if summary["direction"] == "none" else "best"]
    return value


@router.get("/{run_id}", responses={200: {"model": WholeRun}})
def get_run(here: Here, principal: Reader, run_id: RunId) -> Response:
    """One run: its parameters, and each of its curves in a few numbers."""
    with here.database.read() as session:
        return Json(runs.get(session, principal, run_id))


@router.get("/{run_id}/curves", responses={200: {"model": CurveList}, 304: {"description": "the client has it"}})
def get_curves(
    here: Here,
    principal: Reader,
    run_id: RunId,
    form: WantedDrawing,
    delivery: Delivered,
    metric: Annotated[list[MetricName], Query(min_length=1, max_length=50)],
    x: Axis = Axis.STEP,
    points: PointCount | Literal["all"] = 1000,
    smooth: Smoothing = 0,
    from_step: Annotated[StepBound, Query(alias="from", description="first step, included")] = None,
    to_step: Annotated[StepBound, Query(alias="to", description="last step, included")] = None,
    log: Logarithmic = None,
    width: Width = 100,
) -> Response:
    """Curves of a run, of any length, as at most so many points, or `all` of them.

    With fewer points than the curve has, each stands for a bucket: `y` is its mean, `min` and `max` are its extremes.
    The first and the last point, the global extremes and every non-finite value are always among them. With one
    metric the answer is that curve; `data` lists the curves in every case. A curve that has not begun has no points.
    """
    names = list(dict.fromkeys(metric))
    if points == "all":
        whole_curves.require_plain(form, smooth)
    with here.database.read() as session:
        [subject] = runs.subjects(session, principal, [run_id])
        summaries = curves.find(session, [subject.seq], names).get(subject.seq, {})
        if not summaries.keys() | TRAINER_METRICS >= set(names) and subject.status in TERMINAL:
            raise NotFound("metric")
        tag = _tag(delivery, subject, summaries)
        if (unchanged := delivery.unchanged(tag)) is not None:
            return unchanged
        if points != "all":
            read = _read(session, names, summaries, points, from_step, to_step)
    if points == "all":
        bounds = [
            bound if given is None else given
            for bound, given in zip(whole_curves.EVERYTHING, (from_step, to_step), strict=True)
        ]
        whole = Whole(here.database, subject, whole_curves.summaries(summaries, names), x, bounds[0], bounds[1])
        return delivery.stream(whole_curves.stream(whole, form), whole_curves.STREAMED[form], tag)
    if form in formats.TABULAR:
        return delivery.send(_tabular(subject, read, form, x, smooth, width), tag)
    return delivery.send(formats.drawn(here.studio.make(_drawing(subject, read, form, x, smooth, log)), form), tag)


def _read(
    session: Session,
    names: list[str],
    summaries: dict[str, Summary],
    points: int,
    from_step: int | None,
    to_step: int | None,
) -> dict[str, Curve]:
    """By name, in this order; empty where a curve has not begun."""
    begun = [summaries[name] for name in names if name in summaries]
    if from_step is None and to_step is None:
        found = curves.read_all(session, begun, points)
    else:
        found = [curves.read(session, summary, points, from_step, to_step) for summary in begun]
    read = dict(zip((summary.metric for summary in begun), found, strict=True))
    return {name: read.get(name) or Curve.empty() for name in names}


def _tag(delivery: Delivered, subject: Subject, summaries: dict[str, Summary]) -> str | None:
    """Curves of a run that is over never change; its name, which a picture shows, may."""
    if subject.status not in TERMINAL:
        return None
    return delivery.tag(subject.id, subject.name, [(each.metric, each.count) for each in summaries.values()])


def _tabular(
    subject: Subject, read: dict[str, Curve], form: Format, axis: Axis, smoothing: float, width: int
) -> Response:
    if form is Format.TEXT:
        return formats.text(_chart(subject, read, axis, smoothing, width))
    if form is Format.CSV:
        return formats.table(CURVE_TABLE, _rows(subject, read, axis, smoothing), form, width)
    views = [view(name, curve, subject, axis, smoothing) for name, curve in read.items()]
    if form is Format.NDJSON:
        return formats.lines(views)
    # Written once, though the points of a lone curve stand in the answer twice.
    written = [each | {"points": orjson.Fragment(encode(each["points"]))} for each in views]
    alone = written[0] if len(written) == 1 else {}
    return Json({"run_id": subject.id, **alone, "data": written})


def view(metric: str, curve: Curve, subject: Subject, axis: Axis, smoothing: float) -> dict[str, Any]:
    """What users see of a curve: columns of the same length."""
    return {
        "metric": metric,
        "x": axis.value,
        "count": curve.count,
        "downsampled": curve.downsampled,
        "points": columns(curve, along(subject, axis, curve), smoothed(curve, smoothing)),
    }


def along(subject: Subject, axis: Axis, curve: Curve) -> Any:
    return subject.counting.along(axis, curve.step, curve.time)


def columns(curve: Curve, x: Any, y: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "step": curve.step, "min": curve.min, "max": curve.max}


def smoothed(curve: Curve, weight: float) -> Any:
    return curves.smooth(curve.value, weight, curve.weight > 0)


def _rows(subject: Subject, read: dict[str, Curve], axis: Axis, smoothing: float) -> formats.Rows:
    rows: list[tuple[formats.Cell, ...]] = []
    for name, curve in read.items():
        x, y = along(subject, axis, curve), smoothed(curve, smoothing)
        table = (column.tolist() for column in (curve.step, x, y, curve.min, curve.max))
        rows += [(name, *row) for row in zip(*table, strict=True)]
    return rows


def _drawing(
    subject: Subject, read: dict[str, Curve], form: Format, axis: Axis, smoothing: float, log: bool | None
) -> Picture | CurveFile:
    if form is Format.PARQUET:
        parts = [columns(curve, along(subject, axis, curve), smoothed(curve, smoothing)) for curve in read.values()]
        metrics = [name for name, curve in read.items() for _ in curve.step]
        return CurveFile({"metric": metrics, **joined(parts)})
    panels: dict[str, list[Line]] = {}
    for name, curve in read.items():
        panels.setdefault(_unit(name), []).append(line(name, curve, along(subject, axis, curve), smoothing))
    shown = list(panels.items())
    if len(shown) > MOST_PANELS:
        shown = [("value", [each for lines in panels.values() for each in lines])]
    return Picture(
        charts.escaped(subject.name),
        [Panel(lines, _label(unit, lines), logarithmic(log, (each.name for each in lines))) for unit, lines in shown],
        X_LABELS[axis],
        "png" if form is Format.PNG else "svg",
    )


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The columns of several curves behind one another."""
    names = ("x", "y", "step", "min", "max")
    return {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in names} | {
        "step": np.concatenate([np.empty(0, np.int64), *(part["step"] for part in parts)])
    }


def line(name: str, curve: Curve, x: Any, smoothing: float) -> Line:
    """With the extremes of its buckets; of a smoothed curve that shows every point, with these."""
    y = smoothed(curve, smoothing)
    surrounded = curve.downsampled or smoothing > 0
    return Line(charts.escaped(name), x, y, *((curve.min, curve.max) if surrounded else (None, None)))


def logarithmic(log: bool | None, metrics: Iterable[str]) -> bool | None:
    """Whether the y axis of a picture is logarithmic; None for where that helps, which is not with scores: what is
    better the more it is, is looked at near its upper end, and a logarithm makes that small.
    """
    scores = any(curves.direction(metric) is Direction.MAX for metric in metrics)
    return False if log is None and scores else log


def _label(unit: str, lines: list[Line]) -> str:
    return lines[0].name if len(lines) == 1 else unit


def _unit(metric: str) -> str:
    """What metrics that are drawn over each other have in common: losses, or shares between 0 and 1."""
    last = metric.replace("/", "_").rpartition("_")[2]
    return "score" if last in SHARES else last


SHARES = frozenset(("accuracy", "recall", "precision", "f1", "acc"))


def _chart(subject: Subject, read: dict[str, Curve], axis: Axis, smoothing: float, width: int) -> str:
    lines = [charts.Line(name, along(subject, axis, curve), smoothed(curve, smoothing)) for name, curve in read.items()]
    headers = ["metric", "points", "first", "last", "min", "max"]
    rows = [_summary_row(name, curve) for name, curve in read.items()]
    drawn = charts.line_chart(lines, width, title=subject.name, x_label=X_LABELS[axis], y_label=", ".join(read))
    return f"{drawn}\n{charts.table(headers, rows, width)}"


def _summary_row(name: str, curve: Curve) -> list[formats.Cell]:
    if curve.count == 0:
        return [name, 0, None, None, None, None]
    finite = curve.min[curve.weight > 0], curve.max[curve.weight > 0]
    low, high = (float(finite[0].min()), float(finite[1].max())) if len(finite[0]) else (None, None)
    return [name, curve.count, float(curve.value[0]), float(curve.value[-1]), low, high]

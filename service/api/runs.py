"""Routes for runs and their curves."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from service import curves, patterns, runs, subjects
from service.api import formats, shown_curves, whole_curves
from service.api.access import Reader
from service.api.answers import Json
from service.api.delivery import Delivered
from service.api.formats import Wanted, WantedDrawing, Width
from service.api.listings import Page
from service.api.paths import RunId
from service.api.place import Here
from service.api.strict_route import StrictRoute
from service.api.views.runs import CurveList, RunList, WholeRun
from service.api.whole_curves import Whole
from service.curves import Axis, Curve, Summary
from service.errors import NotFound
from service.states import TERMINAL, Direction
from service.subjects import Subject
from service.tasks import TRAINER_METRICS, trained_metrics

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=StrictRoute)

MetricName = Annotated[str, Query(pattern=patterns.METRIC)]
PointCount = Annotated[int, Query(ge=1, le=10_000, description="the most points of a curve; from 10 on it is kept")]
Smoothing = Annotated[float, Query(ge=0, le=0.999, description="weight of the moving average; 0 shows y as it is")]
StepBound = Annotated[int | None, Query(ge=-(2**63), lt=2**63)]
Logarithmic = Annotated[bool | None, Query(description="of pictures: a logarithmic y axis; by default where it helps")]
FIXED = ["id", "name", "status", "user", "project", "created_at", "duration_seconds"]
MOST_NAMED = 30  # metrics in an error


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
    """Runs, newest first or by a metric; as a table with the best value of each metric.

    Also narrowed by `tag.KEY=VALUE` and `param.NAME=VALUE`, as often as you like.
    """
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
        [subject] = subjects.named(session, principal, [run_id])
        summaries = curves.find(session, [subject.seq], names).get(subject.seq, {})
        if not set(names) <= summaries.keys():
            _require_possible(session, subject, set(names) - summaries.keys())
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
        return delivery.send(shown_curves.tabular(subject, read, form, x, smooth, width), tag)
    drawn = here.studio.make(shown_curves.drawing(subject, read, form, x, smooth, log))
    return delivery.send(formats.drawn(drawn, form), tag)


def _require_possible(session: Session, subject: Subject, names: set[str]) -> None:
    """Raises NotFound for a curve that the run neither has nor can ever have."""
    if subject.of_job:
        possible = trained_metrics(str(subject.parameters.get("task")))
    elif subject.status in TERMINAL:
        possible = TRAINER_METRICS
    else:
        return
    if not names <= possible:
        recorded = list(curves.find(session, [subject.seq]).get(subject.seq, {}))
        more = f" and {len(recorded) - MOST_NAMED} more" if len(recorded) > MOST_NAMED else ""
        raise NotFound("metric", f"this run has {', '.join(recorded[:MOST_NAMED]) or 'none yet'}{more}")


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

"""What the jobs of a study have left so far: their states, their plans and their curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import compare, curves, plan
from service.curves import Curve, Summary
from service.plan import Plan
from service.runs import as_text
from service.states import TERMINAL, Direction, EndReason, JobStatus
from service.studies import batch_size
from service.studies.points import Point
from service.tables import Job, Study

Floats = NDArray[np.float64]
MOST_POINTS = 10_000


@dataclass(frozen=True)
class Trial:
    """One job of a study with what it is about. A job that was deleted, or could not be made, has no id."""

    place: int
    point: Point
    seq: int | None = None
    job_id: str | None = None
    status: JobStatus | None = None
    reason_code: str = ""
    asked_to_stop: bool = False
    error: EndReason | None = None
    step: int = 0
    active_seconds: float = 0.0
    started_at: str | None = None
    finished_at: str | None = None
    plan: Plan | None = None

    @property
    def over(self) -> bool:
        return self.status is None or self.status in TERMINAL

    @property
    def succeeded(self) -> bool:
        return self.status is JobStatus.SUCCEEDED

    @property
    def diverged(self) -> bool:
        return self.error is EndReason.NON_FINITE


COLUMNS = (
    Job.study_place,
    Job.seq,
    Job.id,
    Job.status,
    Job.reason_code,
    Job.cancel_requested_at,
    Job.error_code,
    Job.step,
    Job.active_seconds,
    Job.started_at,
    Job.finished_at,
    as_text(Job.plan).label("plan"),
)


def trials(session: Session, study: Study) -> list[Trial]:
    """All points of the study with their jobs, in order."""
    rows = {row.study_place: row for row in session.execute(select(*COLUMNS).where(Job.study_id == study.id))}
    return [_trial(place, Point.of(stored), rows.get(place)) for place, stored in enumerate(study.points)]


def _trial(place: int, point: Point, row: Any) -> Trial:
    if row is None:
        return Trial(place, point)
    return Trial(
        place,
        point,
        row.seq,
        row.id,
        row.status,
        row.reason_code,
        row.cancel_requested_at is not None,
        row.error_code,
        row.step,
        row.active_seconds,
        row.started_at,
        row.finished_at,
        plan.stored(row.plan),
    )


def summaries(session: Session, made: Sequence[Trial], metrics: list[str]) -> dict[int, dict[str, Summary]]:
    """{place: {metric: Summary}} of those that have the metric."""
    places = {trial.seq: trial.place for trial in made if trial.seq is not None}
    return {places[seq]: found for seq, found in curves.find(session, list(places), metrics).items()}


def curve(session: Session, summary: Summary | None, from_step: int | None = None, to_step: int | None = None) -> Curve:
    """A curve, or a stretch of it, both ends included; in buckets when it has more than ten thousand points."""
    return Curve.empty() if summary is None else curves.read(session, summary, MOST_POINTS, from_step, to_step)


def arrival(session: Session, summary: Summary | None, direction: Direction, target: float) -> tuple[int, float] | None:
    """(step, seconds of active training) of the first value at the target or past it; None when there is none.

    Exact for curves of up to a hundred million points: a bucket that holds the place is looked at once more.
    """
    found = curve(session, summary)
    at = compare.reached(found, direction, target)
    if at is not None and found.downsampled:
        found = curve(session, summary, *batch_size.span(found, at))
        at = compare.reached(found, direction, target)
    return None if at is None else (int(found.step[at]), float(found.time[at]))


def held_out(summary: Summary | None) -> float:
    """The loss on the validation split after the last step: NaN where it was not measured, infinite where it is no
    number. That may be although all training losses are: the last update comes behind the last of them.
    """
    if summary is None or summary.last is None:
        return np.nan
    return summary.last if np.isfinite(summary.last) else np.inf


def losses(session: Session, summary: Summary | None, steps: int) -> Floats:
    """The training loss of the first steps: shape (steps,); infinite where the run no longer came."""
    found = np.full(steps, np.inf)
    if summary is not None:
        read = curves.read(session, summary, MOST_POINTS, 1, steps)
        found[read.step - 1] = np.where(np.isfinite(read.value), read.value, np.inf)
    return found

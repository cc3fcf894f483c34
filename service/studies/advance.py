"""The next step of a study: more jobs, an early end for some, or the conclusion.

Everything that a step needs is in the database, and a step is taken in one transaction that makes sure nobody has
taken it before. So any process may take it, as often as it likes, and one that dies in the middle has done nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service import clock, control, curves, intake
from service.database import Database
from service.errors import InvalidInput, QueueFull
from service.intake import Draft
from service.queue import QueueLimits
from service.states import JobStatus, Scope
from service.studies import evidence, importances, points, records, reports, search
from service.studies.evidence import Trial
from service.studies.points import RANGE_TEST, Point
from service.studies.requests import Asked, BatchSizeRequest, GridRequest, SearchRequest
from service.tables import Job, Study
from service.users import Principal

log = structlog.get_logger()

CANCELLED_AT_ONCE = 100  # jobs; more would keep everybody else from writing


@dataclass(frozen=True)
class End:
    """How a study ends."""

    status: JobStatus
    code: str
    message: str
    report: dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What is to be done with a study that has so many points. drafts: None for a point that can be no job."""

    known: int
    points: list[Point] = field(default_factory=list)
    drafts: list[Draft | None] = field(default_factory=list)
    prune: dict[int, str] = field(default_factory=dict)
    cancel: bool = False
    status: JobStatus | None = None
    started_at: str | None = None
    end: End | None = None

    def __bool__(self) -> bool:
        return bool(self.points or self.prune or self.cancel or self.status or self.end)


def advance(database: Database, study_id: str, limits: QueueLimits) -> bool:
    """Takes the study's next step; whether it had one. Raises QueueFull when its next jobs find no room."""
    with database.read() as session:
        study = session.scalars(select(Study).where(Study.id == study_id)).one_or_none()
        if study is None or study.finished_at is not None:
            return False
        asked = records.asked(study)
        step = _next(session, study, asked)
    if not step:
        return False
    if step.end is not None and isinstance(asked, SearchRequest | GridRequest):
        # Seconds, in which no transaction should be open.
        step = replace(step, end=replace(step.end, report=importances.weighed(asked, step.end.report)))
    with database.write() as session:
        current = session.scalars(select(Study).where(Study.id == study_id)).one_or_none()
        same = current is not None and current.finished_at is None and len(current.points) == step.known
        if current is not None and same and (current.cancel_requested_at is None or not step.points):
            _take(session, current, step, limits)
    return True


def _principal(study: Study) -> Principal:
    """Whoever began the study. That its jobs may be filed under its project was seen then."""
    return Principal(study.user, Scope.ADMIN, "")


def _next(session: Session, study: Study, asked: Asked) -> Step:
    made = evidence.trials(session, study)
    known = len(made)
    cancelled = study.cancel_requested_at is not None
    started = min((trial.started_at for trial in made if trial.started_at), default=None)
    if not cancelled and (new := _points(session, study, asked, made)):
        drafts, new = _drafts(session, study, asked, new)
        begins = study.status is JobStatus.QUEUED and any(trial.started_at or trial.over for trial in made)
        return Step(known, new, drafts, status=JobStatus.RUNNING if begins else None, started_at=started)
    if all(trial.over for trial in made):
        return Step(known, started_at=started, end=_end(session, study, asked, made))
    if cancelled and any(not trial.over and not trial.asked_to_stop for trial in made):
        return Step(known, cancel=True)
    prune = reports.hopeless(session, asked, made) if isinstance(asked, SearchRequest) and not cancelled else {}
    prune = {place: why for place, why in prune.items() if not made[place].asked_to_stop}
    status = _status(made)
    return Step(known, prune=prune, status=status if status is not study.status else None, started_at=started)


def _points(session: Session, study: Study, asked: Asked, made: Sequence[Trial]) -> list[Point]:
    """What comes next, now that these are as they are."""
    match asked:
        case SearchRequest():
            free = asked.parallel - sum(not trial.over for trial in made)
            count = min(free, asked.trials - len(made))
            if count <= 0:
                return []
            history = reports.tried(session, asked, made)
            seed = _base_seed(asked)
            chosen = search.suggest(asked, curves.direction(asked.metric or ""), history, count)
            return [Point(parameters, seed) for parameters in chosen]
        case BatchSizeRequest(learning_rate="range_test"):
            tested = all(trial.over and trial.point.stage == RANGE_TEST for trial in made)
            return _after_range_tests(session, asked, made) if tested and len(made) < study.total_jobs else []
        case _:
            return []


def _base_seed(asked: Asked) -> int:
    return int(asked.base.get("hyperparameters", {}).get("seed", 0))


def _after_range_tests(session: Session, asked: BatchSizeRequest, made: Sequence[Trial]) -> list[Point]:
    """The long runs, each size with the rate that its test suggests; without a clear answer, the base's."""
    found = []
    for size in asked.batch_sizes:
        finding = reports.range_test(session, reports.of_size(made, size), asked.learning_rates, 1, asked.steps)
        found.append(points.own_rate(asked) if finding.suggested is None else float(f"{finding.suggested:.6g}"))
    return points.batch_runs(asked, _base_seed(asked), found)


def _drafts(
    session: Session, study: Study, asked: Asked, new: Sequence[Point]
) -> tuple[list[Draft | None], list[Point]]:
    """The drafts of new points. A point that makes no possible spec keeps the reason, and counts as failed."""
    drafts: list[Draft | None] = []
    told: list[Point] = []
    for point in new:
        try:
            drafts.append(intake.draft(session, _principal(study), points.job_spec(asked, point, study.name)))
            told.append(point)
        except InvalidInput as error:
            why = "; ".join(f"{problem.param}: {problem.message}" for problem in error.problems)
            drafts.append(None)
            told.append(Point(point.parameters, point.seed, point.stage, error=why[:500]))
    return drafts, told


def _status(made: Sequence[Trial]) -> JobStatus:
    """Of a study that is not over."""
    waiting = [trial.status for trial in made if not trial.over]
    if all(status is JobStatus.PAUSED for status in waiting):
        return JobStatus.PAUSED
    return JobStatus.RUNNING if any(trial.started_at or trial.over for trial in made) else JobStatus.QUEUED


def _end(session: Session, study: Study, asked: Asked, made: Sequence[Trial]) -> End:
    cancelled = study.cancel_requested_at is not None
    report = reports.draw(session, asked, made, reports.CANCELLED if cancelled else None)
    good = sum(trial.succeeded for trial in made)
    if cancelled:
        return End(
            JobStatus.CANCELLED, "cancelled", f"stopped as asked after {good} of {study.total_jobs} jobs", report
        )
    if not good:
        return End(JobStatus.FAILED, "failed", f"none of its {len(made)} jobs succeeded", report)
    return End(JobStatus.SUCCEEDED, "succeeded", f"{good} of {len(made)} jobs succeeded", report)


def _take(session: Session, study: Study, step: Step, limits: QueueLimits) -> None:
    if step.points:
        records.add_jobs(session, _principal(study), study, step.points, step.drafts, limits)
    for place, why in step.prune.items():
        job = session.scalars(select(Job).where(Job.study_id == study.id, Job.study_place == place)).one_or_none()
        if job is not None:
            control.prune(session, job, why)
    if step.cancel:
        records.cancel_jobs(session, _principal(study), study, CANCELLED_AT_ONCE)
    if step.end is not None:
        _finish(session, study, step.end, step.started_at)
    elif step.status is not None:
        code, message = SAID[step.status]
        if study.cancel_requested_at is not None:
            code, message = study.reason_code, study.reason_message
        records.note(session, study, step.status, code, message, started_at=step.started_at)


SAID = {
    JobStatus.QUEUED: ("waiting", "waiting for its first job to start"),
    JobStatus.RUNNING: ("started", "its jobs are under way"),
    JobStatus.PAUSED: ("paused", "all jobs that it waits for are paused"),
}


def _finish(session: Session, study: Study, end: End, started_at: str | None) -> None:
    now = clock.now()
    session.execute(
        update(Study)
        .where(Study.seq == study.seq, Study.finished_at.is_(None))
        .values(
            status=end.status,
            reason_code=end.code,
            reason_message=end.message,
            reason_since=now,
            report=end.report,
            started_at=started_at,
            finished_at=now,
        )
        .execution_options(synchronize_session=False)
    )


def advance_all(database: Database, limits: QueueLimits) -> tuple[bool, bool]:
    """Takes the next step of every open study; whether any had one, and whether any was open.

    A queue that is full, or a study that breaks, keeps no other study from going on.
    """
    with database.read() as session:
        open_now = records.open_ids(session)
    changed = False
    for study_id in open_now:
        try:
            changed |= advance(database, study_id, limits)
        except QueueFull as error:
            _wait_for_room(database, study_id, str(error))
        except Exception:
            log.exception("study not advanced", study=study_id)
    return changed, bool(open_now)


def _wait_for_room(database: Database, study_id: str, why: str) -> None:
    with database.write() as session:
        study = session.scalars(select(Study).where(Study.id == study_id)).one_or_none()
        if study is not None and study.reason_code != "queue_full":
            records.note(session, study, study.status, "queue_full", why)

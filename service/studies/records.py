"""Studies as they are kept: created with their first jobs, found, listed, cancelled. Reports are drawn elsewhere."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from service import clock, control, projects, queue
from service.errors import IllegalMove, NotFound, NotOwner
from service.ids import new_id
from service.intake import Draft
from service.projects import visible
from service.queue import Place, QueueLimits
from service.states import TERMINAL, JobStatus, Scope, StudyKind
from service.studies import evidence, reports, requests
from service.studies.drafts import Checked
from service.studies.evidence import Trial
from service.studies.points import Point
from service.studies.requests import Asked
from service.tables import Job, Study
from service.users import Principal


@dataclass(frozen=True)
class Filter:
    """What a list of studies may be narrowed to; None means everything."""

    status: JobStatus | None = None
    kind: StudyKind | None = None
    project: str | None = None
    user: str | None = None


def create(session: Session, principal: Principal, made: Checked, limits: QueueLimits) -> str:
    """Keeps the study and queues the jobs it begins with, all of them or none; its id. Raises QueueFull or NotFound."""
    now = clock.now()
    project = made.base.spec.project
    projects.use(session, principal, project)
    study = Study(
        id=new_id(),
        kind=StudyKind(made.asked.kind),
        name=made.asked.name or "",
        project=project,
        user=principal.user,
        spec=made.asked.model_dump(mode="json"),
        points=[],
        total_jobs=made.total_jobs,
        status=JobStatus.QUEUED,
        reason_code="waiting",
        reason_message="waiting for its first job to start",
        reason_since=now,
        created_at=now,
    )
    session.add(study)
    session.flush()
    add_jobs(session, principal, study, made.points, made.drafts, limits)
    return study.id


def add_jobs(
    session: Session,
    principal: Principal,
    study: Study,
    points: Sequence[Point],
    drafts: Sequence[Draft | None],
    limits: QueueLimits,
) -> None:
    """Queues a job for each point, in the transaction that adds the points. drafts: None where none can be made."""
    known = list(study.points)
    possible = [
        (draft, Place(study.id, number)) for number, draft in enumerate(drafts, len(known)) if draft is not None
    ]
    queue.submit_all(
        session, principal, [draft for draft, _ in possible], limits, places=[place for _, place in possible]
    )
    study.points = known + [point.as_dict() for point in points]
    session.flush()


def asked(study: Study) -> Asked:
    return requests.READER.validate_python(study.spec)


def seen(session: Session, principal: Principal, study_id: str) -> Study:
    """A study that the principal may look at. Raises NotFound."""
    found = session.scalars(_visible(principal).where(Study.id == study_id)).one_or_none()
    if found is None:
        raise NotFound("study")
    return found


def _visible(principal: Principal) -> Select[Study]:
    return select(Study).where(visible(principal, Study.project))


def page(session: Session, principal: Principal, wanted: Filter, after: str | None, limit: int) -> list[dict[str, Any]]:
    """Views of the studies behind the study `after`, newest first, without their jobs and reports."""
    query = _visible(principal).order_by(Study.seq.desc()).limit(limit)
    for column, value in (
        (Study.status, wanted.status),
        (Study.kind, wanted.kind),
        (Study.project, wanted.project),
        (Study.user, wanted.user),
    ):
        if value is not None:
            query = query.where(column == value)
    if after is not None:
        cursor = select(Study.seq).where(Study.id == after, visible(principal, Study.project)).scalar_subquery()
        query = query.where(Study.seq < cursor)
    found = session.scalars(query).all()
    of_these = Job.study_id.in_([study.id for study in found])
    rows = select(Job.study_id, Job.status, func.count()).where(of_these).group_by(Job.study_id, Job.status)
    counted: dict[str | None, Counter[JobStatus]] = {study.id: Counter() for study in found}
    for study_id, status, count in session.execute(rows):
        counted[study_id][status] = count
    return [_head(study) | {"progress": _counts(study, counted[study.id])} for study in found]


def get(session: Session, principal: Principal, study_id: str) -> dict[str, Any]:
    """The whole view of one study, with the report so far while it is not over. Raises NotFound."""
    study = seen(session, principal, study_id)
    made = evidence.trials(session, study)
    counted = Counter(trial.status for trial in made if trial.status is not None)
    steps = {
        "steps": sum(trial.step for trial in made),
        "total_steps": sum(trial.plan.total_steps for trial in made if trial.plan),
    }
    jobs = [_job(trial) for trial in made]
    return _head(study) | {
        "jobs": jobs,
        "progress": _counts(study, counted) | steps,
        "report": _report(session, study, made),
    }


def _report(session: Session, study: Study, made: Sequence[Trial]) -> dict[str, Any] | None:
    """The conclusion, or what the jobs that are over say so far; None before the first of them is."""
    if study.report is not None:
        return study.report | {"partial": None}
    return reports.so_far(session, asked(study), made, study.total_jobs)


def _head(study: Study) -> dict[str, Any]:
    return {
        "id": study.id,
        "object": "study",
        "kind": study.kind.value,
        "name": study.name,
        "project": study.project,
        "user": study.user,
        "status": study.status.value,
        "status_reason": {
            "code": study.reason_code,
            "message": study.reason_message,
            "since": study.reason_since,
        },
        "spec": study.spec,
        "created_at": study.created_at,
        "started_at": study.started_at,
        "finished_at": study.finished_at,
    }


def _counts(study: Study, counted: Counter[JobStatus]) -> dict[str, Any]:
    return {
        "total_jobs": study.total_jobs,
        "created": len(study.points),
        "finished": sum(counted[status] for status in TERMINAL),
        **{status.value: counted[status] for status in JobStatus},
    }


def _job(trial: Trial) -> dict[str, Any]:
    return {
        "id": trial.job_id,
        "status": trial.status.value if trial.status else None,
        "parameters": trial.point.parameters,
        "seed": trial.point.seed,
        "stage": trial.point.stage,
        "error": trial.point.error or (trial.error.value if trial.error else None),
    }


def cancel(session: Session, principal: Principal, study_id: str) -> bool:
    """Asks the study to stop, so that its next steps cancel its jobs; whether anything was changed.

    Raises NotFound, NotOwner, or IllegalMove for a study that is over otherwise.
    """
    study = seen(session, principal, study_id)
    if study.user != principal.user and principal.scope is not Scope.ADMIN:
        raise NotOwner("study")
    if study.status is JobStatus.CANCELLED or study.cancel_requested_at is not None:
        return False
    if study.status in TERMINAL:
        raise IllegalMove(study_id, study.status, JobStatus.CANCELLED, "study")
    study.cancel_requested_at = clock.now()
    study.reason_code, study.reason_since = "cancelling", study.cancel_requested_at
    study.reason_message = f"asked to stop by {principal.user}"
    session.flush()
    return True


def cancel_jobs(session: Session, principal: Principal, study: Study, most: int) -> None:
    """Cancels jobs of the study that nobody has asked to stop yet, at most so many."""
    unasked = Job.study_id == study.id, Job.status.not_in(TERMINAL), Job.cancel_requested_at.is_(None)
    for job_id in session.scalars(select(Job.id).where(*unasked).order_by(Job.seq).limit(most)).all():
        control.cancel(session, principal, job_id)


def open_ids(session: Session) -> list[str]:
    """The studies that are not over, the oldest first."""
    return list(session.scalars(select(Study.id).where(Study.finished_at.is_(None)).order_by(Study.seq)))


def note(session: Session, study: Study, status: JobStatus, code: str, message: str, **values: Any) -> None:
    """Where an open study stands now."""
    session.execute(
        update(Study)
        .where(Study.seq == study.seq, Study.finished_at.is_(None))
        .values(status=status, reason_code=code, reason_message=message[:500], reason_since=clock.now(), **values)
        .execution_options(synchronize_session=False)
    )

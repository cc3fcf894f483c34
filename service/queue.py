"""The queue: how a checked job gets in, and how it moves. People change it then in `control`, workers in `leases`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from service import clock, projects, spec
from service.errors import QueueFull
from service.ids import new_id
from service.intake import NEVER_SUCCEED, Draft
from service.states import TERMINAL, EndReason, JobStatus, sources
from service.tables import Job, JobDependency, Run, Table
from service.users import Principal

# What is written often is written as rows: to make an object of each, and let the session find out what has changed,
# takes longer than SQLite does to store it.
JOBS, EVENTS, DEPENDENCIES = (Table.metadata.tables[name] for name in ("jobs", "job_events", "job_dependencies"))
# Two counts, each by an index alone.
QUEUED = select(func.count()).select_from(Job).where(Job.status == JobStatus.QUEUED)
QUEUED_BY_USER = QUEUED.where(Job.user == bindparam("user"))


@dataclass(frozen=True)
class Place:
    """Which of a study's jobs a job is, counted from 0."""

    study: str
    number: int


@dataclass(frozen=True)
class QueueLimits:
    jobs: int
    jobs_per_user: int


def submit(
    session: Session, principal: Principal, made: Draft, limits: QueueLimits, retry_of: str | None = None
) -> str:
    """Queues the job and returns its id. Raises QueueFull, or NotFound for a project of others."""
    [job_id] = submit_all(session, principal, [made], limits, retry_of=retry_of)
    return job_id


def submit_all(
    session: Session,
    principal: Principal,
    drafts: Sequence[Draft],
    limits: QueueLimits,
    *,
    retry_of: str | None = None,
    places: Sequence[Place] = (),
) -> list[str]:
    """Queues the jobs, all of them or none, and returns their ids. places: one for each, when they are of a study.

    Raises QueueFull, or NotFound for a project of others. Written table by table: one after the other, a thousand jobs
    would keep everybody else from writing for seconds.
    """
    if not drafts:  # an insert of no rows would be one of defaults
        return []
    _require_room(session, principal, limits, len(drafts))
    for project in dict.fromkeys(made.spec.project for made in drafts):
        projects.use(session, principal, project)
    now = clock.now()
    runs = [_run(principal, made, now) for made in drafts]
    session.add_all(runs)
    session.flush()
    jobs = [
        _job(run, made, retry_of, place) for run, made, place in zip(runs, drafts, places or repeat(None), strict=False)
    ]
    session.add_all(jobs)
    session.flush()
    needs = [{"job": job.seq, "needs": needed} for job, made in zip(jobs, drafts, strict=True) for needed in made.needs]
    if needs:
        session.execute(insert(DEPENDENCIES), needs)
    told = {"at": now, "code": "submitted", "message": f"submitted by {principal.user}", "data": {}}
    session.execute(insert(EVENTS), [{"job": job.seq, **told} for job in jobs])
    return [job.id for job in jobs]


def _run(principal: Principal, made: Draft, now: str) -> Run:
    return Run(
        id=new_id(),
        name=made.spec.name,
        project=made.spec.project,
        user=principal.user,
        tags=dict(made.spec.tags),
        parameters=spec.parameters(made.spec) | {"dataset_version": made.dataset.version},
        created_at=now,
    )


def _job(run: Run, made: Draft, retry_of: str | None, place: Place | None) -> Job:
    held = made.spec.resources
    return Job(
        seq=run.seq,
        id=run.id,
        user=run.user,
        dataset_id=made.dataset.id,
        task=made.spec.task,
        spec=made.spec.model_dump(mode="json"),
        plan=made.plan.model_dump(mode="json"),
        warnings=made.warnings,
        priority=made.spec.priority,
        threads=held.threads * held.processes,
        gpus=held.gpus,
        memory_mib=held.memory_mib and held.memory_mib * held.processes,
        max_attempts=made.spec.limits.max_attempts,
        status=JobStatus.QUEUED,
        reason_code="waiting",
        reason_message="waiting for the jobs it depends on" if made.needs else "waiting for a free slot",
        reason_since=run.created_at,
        retry_of=retry_of,
        study_id=place and place.study,
        study_place=place and place.number,
    )


def _require_room(session: Session, principal: Principal, limits: QueueLimits, more: int) -> None:
    if session.scalars(QUEUED).one() + more > limits.jobs:
        raise QueueFull(limits.jobs, "all users")
    if session.scalars(QUEUED_BY_USER, {"user": principal.user}).one() + more > limits.jobs_per_user:
        raise QueueFull(limits.jobs_per_user, "this user")


def move(session: Session, seq: int, target: JobStatus, code: str, message: str, *guards: Any, **values: Any) -> bool:
    """The only place that sets a status: one UPDATE, guarded by the table of moves, and the event that tells it.

    guards: further conditions on the row. Whether the row was there to be moved.
    """
    if not _move_alone(session, seq, target, code, message, *guards, **values):
        return False
    if target in NEVER_SUCCEED:
        _fail_dependents(session, seq, target)
    return True


def _move_alone(
    session: Session, seq: int, target: JobStatus, code: str, message: str, *guards: Any, **values: Any
) -> bool:
    now = clock.now()
    session.flush()
    moved = session.execute(
        update(JOBS)
        .where(Job.seq == seq, Job.status.in_(sources(target)), *guards)
        .values(
            status=target,
            reason_code=code,
            reason_message=message[:500],
            reason_since=now,
            finished_at=now if target in TERMINAL else None,
            **({} if target is JobStatus.RUNNING else {"worker": None, "lease_until": None}),
            **values,
        )
    )
    if moved.rowcount == 0:  # type: ignore[attr-defined]
        return False
    tell(session, seq, code, message, **_error_facts(values))
    return True


def _fail_dependents(session: Session, seq: int, ended: JobStatus) -> None:
    """A job that needs one that did not succeed can never start: it fails with that reason, and so do its own."""
    waiting = select(JobDependency.job).join(Job, Job.seq == JobDependency.job)
    over = [(seq, ended)]
    for needed, status in over:  # grows meanwhile: a chain may be longer than calls may be deep
        needing = JobDependency.needs == needed, Job.status.in_((JobStatus.QUEUED, JobStatus.PAUSED))
        job_id = session.scalars(select(Job.id).where(Job.seq == needed)).one()
        message = f"job {job_id}, which it depends on, is {status.value}"
        facts = {"error_code": EndReason.ERROR, "error_message": message}
        for dependent in session.scalars(waiting.where(*needing)).all():
            _move_alone(session, dependent, JobStatus.FAILED, "dependency_failed", message, **facts)
            over.append((dependent, JobStatus.FAILED))


def _error_facts(values: Mapping[str, Any]) -> dict[str, Any]:
    code = values.get("error_code")
    return {"error": code.value} if isinstance(code, EndReason) else {}


def tell(session: Session, seq: int, code: str, message: str, **data: Any) -> None:
    """Adds an event to the job's history."""
    told = {"job": seq, "at": clock.now(), "code": code, "message": message[:500], "data": data}
    session.execute(insert(EVENTS), told)

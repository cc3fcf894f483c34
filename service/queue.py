"""What people do to the queue: submit a job, cancel it. What workers do to it is in `leases`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service import clock, datasets, plan, projects, spec
from service.errors import FieldProblem, IllegalMove, InvalidInput, NotFound, NotOwner, QueueFull
from service.ids import new_id
from service.plan import Plan
from service.spec import JobSpec
from service.states import TERMINAL, EndReason, JobStatus, Scope, sources
from service.tables import Dataset, Job, JobEvent, Run, WorkerRow
from service.users import Principal


@dataclass(frozen=True)
class Draft:
    """A checked request: what would be created, and what is said about it."""

    spec: JobSpec
    plan: Plan
    warnings: list[dict[str, str]]
    dataset: Dataset


@dataclass(frozen=True)
class QueueLimits:
    jobs: int
    jobs_per_user: int


def draft(session: Session, raw: Mapping[str, Any], found: Iterable[FieldProblem] = ()) -> Draft:
    """Checks a raw spec against itself, the data and the box. Raises InvalidInput with every problem.

    found: problems that the caller met while decoding the request.
    """
    asked = spec.parse(raw, lambda raw: _misfits(session, raw), found)
    dataset = datasets.find(session, asked.dataset)
    if impossible := plan.problems(asked, dataset.rows):
        raise InvalidInput(impossible)
    counted = plan.make(asked, dataset.rows)
    given = asked.hyperparameters.model_fields_set
    return Draft(asked, counted, plan.warnings(asked, counted, given), dataset)


def _misfits(session: Session, raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    """What only the database knows: is there such a data set, does it fit the task, can any worker hold the job?"""
    name = raw.get("dataset")
    if isinstance(name, str) and spec.is_dataset_reference(name):
        try:
            yield from _data_misfits(datasets.find(session, name), raw)
        except NotFound:
            known = ", ".join(datasets.names(session)[:20])
            yield FieldProblem("dataset", "unknown_dataset", "there is no such data set", f"known here: {known}")
    wanted = raw.get("resources")
    if isinstance(wanted, dict):
        for name, most in _largest_worker(session).items():
            if isinstance(wanted.get(name), int) and wanted[name] > most:
                message = f"no worker of this box has more than {most} to give"
                yield FieldProblem(f"resources.{name}", "never_available", message)


def _data_misfits(dataset: Dataset, raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    task = raw.get("task")
    if isinstance(task, str) and task in spec.LOSSES and task != dataset.task:
        yield FieldProblem("task", "task_does_not_fit", f"the data set is for {dataset.task}")
    chosen = raw.get("hyperparameters")
    loss = chosen.get("loss") if isinstance(chosen, dict) else None
    classes = len(dataset.classes or ())
    if loss == "bce" and dataset.task == "classification" and classes != 2:
        yield FieldProblem(
            "hyperparameters.loss", "loss_does_not_fit", f"bce tells two classes apart, and the data set has {classes}"
        )


def _largest_worker(session: Session) -> dict[str, int]:
    """The most that one job can ever hold; nothing is known before a worker has been here."""
    workers = session.execute(select(WorkerRow.slots, WorkerRow.devices)).all()
    if not workers:
        return {}
    return {"threads": max(row.slots for row in workers), "gpus": max(len(row.devices) for row in workers)}


def submit(session: Session, principal: Principal, made: Draft, limits: QueueLimits) -> str:
    """Queues the job and returns its id. Raises QueueFull, or NotFound for a project of others."""
    _require_room(session, principal, limits)
    projects.use(session, principal, made.spec.project)
    now = clock.now()
    run = Run(
        id=new_id(),
        name=made.spec.name,
        project=made.spec.project,
        user=principal.user,
        tags=dict(made.spec.tags),
        parameters=spec.parameters(made.spec) | {"dataset_version": made.dataset.version},
        created_at=now,
    )
    session.add(run)
    session.flush()
    job = Job(
        seq=run.seq,
        id=run.id,
        user=principal.user,
        dataset_id=made.dataset.id,
        task=made.spec.task,
        spec=made.spec.model_dump(mode="json"),
        plan=made.plan.model_dump(mode="json"),
        warnings=made.warnings,
        priority=made.spec.priority,
        threads=made.spec.resources.threads,
        gpus=made.spec.resources.gpus,
        max_attempts=made.spec.limits.max_attempts,
        status=JobStatus.QUEUED,
        reason_code="waiting",
        reason_message="waiting for a free slot",
        reason_since=now,
    )
    session.add(job)
    session.flush()
    tell(session, job.seq, "submitted", f"submitted by {principal.user}")
    return job.id


def _require_room(session: Session, principal: Principal, limits: QueueLimits) -> None:
    queued = select(func.count()).select_from(Job).where(Job.status == JobStatus.QUEUED)
    if session.scalars(queued).one() >= limits.jobs:
        raise QueueFull(limits.jobs, "all users")
    if session.scalars(queued.where(Job.user == principal.user)).one() >= limits.jobs_per_user:
        raise QueueFull(limits.jobs_per_user, "this user")


def cancel(session: Session, principal: Principal, job_id: str) -> None:
    """Ends a waiting job at once; asks a running one to stop. Again on a cancelled one changes nothing.

    Raises NotFound, NotOwner, or IllegalMove for a job that ended otherwise.
    """
    job = owned(session, principal, job_id)
    if job.status is JobStatus.CANCELLED or job.cancel_requested_at is not None:
        return
    if job.status in TERMINAL:
        raise IllegalMove(job_id, job.status, JobStatus.CANCELLED)
    now = clock.now()
    asked = {"cancel_requested_at": now}
    if job.status is JobStatus.RUNNING:
        reason = {"reason_code": "cancelling", "reason_message": "the trainer is asked to stop", "reason_since": now}
        session.execute(update(Job).where(Job.seq == job.seq).values(**asked, **reason))
        tell(session, job.seq, "cancel_requested", f"asked to stop by {principal.user}")
    else:
        move(session, job.seq, JobStatus.CANCELLED, "cancelled", f"cancelled by {principal.user}", **asked)


def owned(session: Session, principal: Principal, job_id: str) -> Job:
    """A job that the principal may change. Raises NotFound if it may not be seen, NotOwner if only that."""
    query = select(Job).join(Run, Run.seq == Job.seq).where(Job.id == job_id, projects.visible(principal))
    job = session.scalars(query).one_or_none()
    if job is None:
        raise NotFound("job")
    if job.user != principal.user and principal.scope is not Scope.ADMIN:
        raise NotOwner("job")
    return job


def move(session: Session, seq: int, target: JobStatus, code: str, message: str, *guards: Any, **values: Any) -> bool:
    """The only place that sets a status: one UPDATE, guarded by the table of moves, and the event that tells it.

    guards: further conditions on the row. Whether the row was there to be moved.
    """
    now = clock.now()
    moved = session.execute(
        update(Job)
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
        .execution_options(synchronize_session=False)
    )
    if moved.rowcount == 0:  # type: ignore[attr-defined]
        return False
    tell(session, seq, code, message, **_error_facts(values))
    return True


def _error_facts(values: Mapping[str, Any]) -> dict[str, Any]:
    code = values.get("error_code")
    return {"error": code.value} if isinstance(code, EndReason) else {}


def tell(session: Session, seq: int, code: str, message: str, **data: Any) -> None:
    """Adds an event to the job's history."""
    session.add(JobEvent(job=seq, at=clock.now(), code=code, message=message[:500], data=data))
    session.flush()

"""What workers do to the queue: claim a job, hold it while it runs, end the attempt.

The right to write for an attempt is a row: job, attempt number and worker in one guarded UPDATE. A worker that was
thought dead and comes back finds no such row, and what it says is void.
"""

import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from service import checkpoints, clock, curves, memory, order, queue, usage
from service.checkpoints import Kept
from service.errors import LeaseLost
from service.order import Room
from service.plan import Plan
from service.spec import Gate
from service.states import EndReason, JobStatus
from service.tables import Attempt, Dataset, Job, Table

LONGEST_BACKOFF = 300.0
ATTEMPTS = Table.metadata.tables["attempts"]


@dataclass(frozen=True)
class Lease:
    """The right to write for one attempt of a job."""

    seq: int
    job_id: str
    attempt: int
    worker: str

    def guard(self) -> tuple[Any, ...]:
        return (Job.attempt == self.attempt, Job.worker == self.worker, Job.status == JobStatus.RUNNING)


@dataclass(frozen=True)
class Claim:
    """A job just claimed, with all that its trainer needs.

    checkpoints: all that it has, newest first, the newest being one to go on from; the job has been trained for
    active_seconds up to it, and its curves are cut back to that: `counts` points are left of each. keep: how many of
    the newest checkpoints stay.
    gate: what is watched for while it trains. memory_limits: see `memory.limits`.
    """

    lease: Lease
    spec: dict[str, Any]
    plan: dict[str, Any]
    dataset_id: str
    dataset_sha256: str
    classes: int | None
    model_kind: str
    memory_limits: dict[str, int]
    columns: list[dict[str, Any]]
    checkpoints: list[Kept]
    keep: int
    gate: Gate | None
    active_seconds: float
    counts: dict[str, int]
    threads: int
    gpus: float
    memory_mib: int | None
    max_seconds: float | None


@dataclass(frozen=True)
class Terms:
    """How long leases last and lost jobs wait, in seconds; how many jobs of one user may run at a time."""

    lease: float
    backoff: float
    most_running: int | None = None

    @property
    def lease_milliseconds(self) -> int:
        return int(self.lease * 1000)


def claim(session: Session, worker: str, free: Room, total: Room, terms: Terms) -> Claim | None:
    """The job that is next by `order` for a worker with these slots, now running under a new attempt; or None.

    One of which what is stored makes no sense, since another version wrote it, fails here and holds nobody up.
    """
    while (seq := order.next_job(session, free, total, terms.most_running)) is not None:
        job = _begin(session, seq, worker, terms)
        lease = Lease(seq, job.id, job.attempt, worker)
        try:
            return _claim(session, job, lease)
        except (LookupError, TypeError, ValueError) as error:
            message = f"this version cannot read what is stored of the job ({type(error).__name__})"
            fail(session, lease, EndReason.ERROR, message, None, None)
    return None


def _begin(session: Session, seq: int, worker: str, terms: Terms) -> Job:
    """Lets a job run under a new attempt of the worker."""
    now, boot = clock.boot_milliseconds(), clock.boot_id()
    held = {"worker": worker, "boot": boot, "lease_until": now + terms.lease_milliseconds}
    began = {"attempt": Job.attempt + 1, "started_at": func.coalesce(Job.started_at, clock.now())}
    queue.move(session, seq, JobStatus.RUNNING, "started", "training", **began, **held)
    job = session.scalars(select(Job).where(Job.seq == seq)).one()
    started = {"started_ms": now, "started_at": job.reason_since}
    attempt = {"job": seq, "number": job.attempt, "worker": worker, "boot": boot, "devices": [], **started}
    session.execute(insert(ATTEMPTS), attempt)
    return job


def _claim(session: Session, job: Job, lease: Lease) -> Claim:
    """Raises LookupError, TypeError or ValueError when what is stored makes no sense."""
    kept, counts = _cut_back(session, job) if job.attempt > 1 else ([], {})
    Plan.model_validate(job.plan)
    gate = job.spec["gate"]
    dataset = session.scalars(select(Dataset).where(Dataset.id == job.dataset_id)).one()
    classes = None if dataset.classes is None else len(dataset.classes)
    kind = memory.kind(job.spec, dataset.shape, classes)
    return Claim(
        lease=lease,
        spec=job.spec,
        plan=job.plan,
        dataset_id=job.dataset_id,
        dataset_sha256=dataset.arrays_sha256,
        classes=classes,
        model_kind=kind,
        memory_limits=memory.limits(session, kind),
        columns=dataset.columns,
        checkpoints=kept,
        keep=job.spec["checkpoints"]["keep"],
        gate=None if gate is None else Gate.model_validate(gate),
        active_seconds=job.active_seconds,
        counts=counts,
        threads=job.threads,
        gpus=job.gpus,
        memory_mib=job.memory_mib,
        max_seconds=job.spec["limits"]["max_seconds"],
    )


def _cut_back(session: Session, job: Job) -> tuple[list[Kept], dict[str, int]]:
    """Takes a job back to its newest checkpoint: (what it has kept, newest first; points left of each curve)."""
    kept = checkpoints.cut(session, job.seq)
    job.checkpoint_step = job.step = kept[0].step if kept else 0
    job.active_seconds = kept[0].active_seconds if kept else 0.0
    curves.cut(session, job.seq, job.checkpoint_step)
    left = curves.find(session, [job.seq]).get(job.seq, {})
    return kept, {metric: summary.count for metric, summary in left.items()}


def hold(session: Session, lease: Lease, terms: Terms, **progress: Any) -> None:
    """Guards the transaction of anything written for the attempt. Raises LeaseLost when the attempt is over."""
    until = clock.boot_milliseconds() + terms.lease_milliseconds
    held = session.execute(
        update(Job)
        .where(Job.seq == lease.seq, *lease.guard())
        .values(lease_until=until, **progress)
        .execution_options(synchronize_session=False)
    )
    if held.rowcount == 0:  # type: ignore[attr-defined]
        raise LeaseLost(lease.job_id, lease.attempt)


def note_attempt(session: Session, lease: Lease, **facts: Any) -> None:
    """Writes down facts of the attempt; only behind `hold` in the same transaction."""
    session.execute(
        update(Attempt)
        .where(Attempt.job == lease.seq, Attempt.number == lease.attempt)
        .values(**facts)
        .execution_options(synchronize_session=False)
    )


def asked_for(row: Any) -> JobStatus | None:
    """What people want a running job to become: cancelled, paused or nothing."""
    if row.cancel_requested_at is not None:
        return JobStatus.CANCELLED
    return None if row.pause_requested_at is None else JobStatus.PAUSED


def succeed(session: Session, lease: Lease, early: str | None = None) -> None:
    """early: why there are fewer steps than planned, if there are."""
    code, message = ("succeeded", "all steps are done") if early is None else ("stopped_early", early)
    _end(session, lease, JobStatus.SUCCEEDED, code, message, "succeeded")


def stop(session: Session, lease: Lease) -> None:
    job = _row(session, lease)
    code, message = (
        ("pruned", job.reason_message) if job.reason_code == "pruning" else ("cancelled", "stopped as asked")
    )
    _end(session, lease, JobStatus.CANCELLED, code, message, "cancelled")


def fail(
    session: Session, lease: Lease, reason: EndReason, message: str, exit_code: int | None, signal: int | None
) -> None:
    facts = {"error_code": reason, "error_message": message[:2000], "exit_code": exit_code, "signal": signal}
    _end(session, lease, JobStatus.FAILED, "failed", message, reason.value, **facts)


def give_back(
    session: Session,
    lease: Lease,
    code: str = "drained",
    message: str = "its worker was stopped; another goes on with it",
) -> None:
    """A drain or a pause: the job waits again, unless people want something else; the attempt does not count."""
    wanted = asked_for(_row(session, lease))
    excused = {"excused_attempts": Job.excused_attempts + 1, "not_before": 0}
    if wanted is JobStatus.CANCELLED:
        stop(session, lease)
    elif wanted is JobStatus.PAUSED:
        _end(session, lease, JobStatus.PAUSED, "paused", "paused as asked", "paused", **excused)
    else:
        _end(session, lease, JobStatus.QUEUED, code, message, code, **excused)


def shrink(session: Session, lease: Lease, model: str, device: str, used: int) -> bool:
    """A device without memory for micro-batches of so many parts: the next attempt computes them in twice as many.

    The batch, the plan and the schedule stand, and the attempt does not count. False, and nothing is written, when the
    parts were lone samples already.
    """
    job = _row(session, lease)
    plan = Plan.model_validate(job.plan)
    parts = memory.halve(session, model, device, plan, used)
    if parts is None:
        return False
    message = f"{device} ran out of memory; from now on a batch of {plan.batch_size} is computed in {parts} parts"
    give_back(session, lease, "micro_batch_halved", message)
    return True


def lose(
    session: Session,
    lease: Lease,
    terms: Terms,
    message: str,
    signal: int | None = None,
    reason: EndReason = EndReason.WORKER_LOST,
) -> None:
    """The attempt ended through no fault of the job: it waits and starts again, while attempts remain.

    The wait doubles with each attempt in a row that has left no checkpoint: a job that kills its workers is slowed
    down, and not one that gets on between the losses.
    One that was asked to pause is paused, at its newest checkpoint, and the attempt does not count. One whose trainer
    stalled starts again once.
    """
    job = _row(session, lease)
    counted, wanted = job.attempt - job.excused_attempts, asked_for(job)
    if wanted is JobStatus.PAUSED:
        excused = {"excused_attempts": Job.excused_attempts + 1, "not_before": 0}
        _end(session, lease, JobStatus.PAUSED, "paused", f"paused; {message}", reason.value, **excused)
    elif wanted is JobStatus.CANCELLED:
        _end(session, lease, JobStatus.CANCELLED, "cancelled", f"cancelled; {message}", reason.value)
    elif counted >= job.max_attempts or (reason is EndReason.STALLED and _has_stalled(session, lease)):
        told = f"{message}, in attempt {job.attempt}, which was the last"
        facts = {"error_code": reason, "error_message": told, "signal": signal}
        _end(session, lease, JobStatus.FAILED, "failed", told, reason.value, **facts)
    else:
        fruitless = min(counted, job.attempt - checkpoints.newest_attempt(session, lease.seq))
        doubled = terms.backoff * 2 ** max(0, fruitless - 1)
        seconds = min(LONGEST_BACKOFF, doubled) * random.uniform(0.8, 1.2)  # noqa: S311
        wait = {"not_before": clock.boot_milliseconds() + int(seconds * 1000), "boot": clock.boot_id()}
        again = f"{message}; attempt {job.attempt + 1} starts in about {seconds:.0f} s"
        _end(session, lease, JobStatus.QUEUED, reason.value, again, reason.value, **wait)


def _has_stalled(session: Session, lease: Lease) -> bool:
    earlier = select(Attempt.number).where(Attempt.job == lease.seq, Attempt.ended == EndReason.STALLED.value)
    return session.scalars(earlier.limit(1)).one_or_none() is not None


def _row(session: Session, lease: Lease) -> Job:
    query = select(Job).where(Job.seq == lease.seq).execution_options(populate_existing=True)
    if (job := session.scalars(query).one_or_none()) is None:  # ended by another worker, and deleted
        raise LeaseLost(lease.job_id, lease.attempt)
    return job


def _end(session: Session, lease: Lease, status: JobStatus, code: str, message: str, ended: str, **values: Any) -> None:
    over = {"pause_requested_at": None}
    if not queue.move(session, lease.seq, status, code, message, *lease.guard(), **over, **values):
        raise LeaseLost(lease.job_id, lease.attempt)
    note_attempt(session, lease, finished_at=clock.now(), ended=ended)
    _charge(session, lease)


def _charge(session: Session, lease: Lease) -> None:
    """Counts what the attempt has used as its user's."""
    query = select(Job.user, Job.threads, Job.gpus, Attempt.started_ms, Attempt.boot)
    of_attempt = query.join(Attempt, Attempt.job == Job.seq).where(
        Job.seq == lease.seq, Attempt.number == lease.attempt
    )
    user, threads, gpus, started, boot = session.execute(of_attempt).one()
    if boot == clock.boot_id():
        seconds = (clock.boot_milliseconds() - started) / 1000
        usage.charge(session, user, usage.weight(threads, gpus) * seconds)

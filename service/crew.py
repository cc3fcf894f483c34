"""The workers that are there: who lives, who hangs, what each holds; and who takes over from the dead."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, and_, delete, func, select, union_all, update
from sqlalchemy.orm import Session

from service import clock, leases, locks
from service.errors import LeaseLost
from service.leases import Lease, Terms
from service.states import JobStatus
from service.tables import Job, WorkerRow

HUNG_AFTER_LEASES = 3


@dataclass(frozen=True)
class Memory:
    """What a worker gives out to its jobs together, and the most that one of its trainers may have."""

    given_out_mib: int
    trainer_mib: int


def worker_lock(run_path: Path, worker: str) -> Path:
    """The file that a worker keeps locked while it lives."""
    return run_path / f"worker-{worker}.lock"


def register(
    session: Session,
    worker: str,
    pid: int,
    slots: int,
    devices: list[dict[str, Any]],
    terms: Terms,
    memory: Memory | None = None,
) -> None:
    """Tells the box of a worker. memory: None when it does not know what it has."""
    session.add(
        WorkerRow(
            id=worker,
            boot=clock.boot_id(),
            pid=pid,
            slots=slots,
            devices=devices,
            memory_mib=memory and memory.given_out_mib,
            trainer_memory_mib=memory and memory.trainer_mib,
            lease_until=clock.boot_milliseconds() + terms.lease_milliseconds,
            started_at=clock.now(),
        )
    )


def alive(session: Session, run_path: Path) -> list[WorkerRow]:
    """The workers whose processes live and have renewed in time, the oldest first."""
    now = clock.boot_milliseconds()
    found = session.scalars(select(WorkerRow).order_by(WorkerRow.started_at))
    return [each for each in found if each.lease_until > now and _is_there(run_path, each.id, each.boot)]


def out_of_service(worker: WorkerRow) -> list[str]:
    """What a worker has and cannot give out, a sentence each."""
    found = []
    for lost in worker.out_of_service:
        held = [f"{lost['threads']} of its {worker.slots} threads"]
        held += [f"{lost['memory_mib']} MiB of memory"] if lost["memory_mib"] else []
        pids = ", ".join(map(str, lost["pids"]))
        found.append(
            f"out of service: {' and '.join(held)}, held by what an ended job left and nobody can end: pid {pids}"
        )
    for device in worker.devices:
        if device.get("silent") is not None:
            found.append(f"out of service: GPU {device['index']}, of which the driver says: {device['silent']}")
        elif device.get("out_of_service"):
            found.append(f"out of service: GPU {device['index']}, whose memory is in use though its job has ended")
    return found


def describe(
    session: Session, worker: str, devices: list[dict[str, Any]], out_of_service: list[dict[str, Any]]
) -> None:
    """What the box shows of the worker's devices, and of the slots that it cannot give out."""
    now = {"devices": devices, "out_of_service": out_of_service}
    session.execute(update(WorkerRow).where(WorkerRow.id == worker).values(**now))


def unregister(session: Session, worker: str) -> None:
    session.execute(delete(WorkerRow).where(WorkerRow.id == worker))


def renew(session: Session, worker: str, terms: Terms) -> dict[str, JobStatus | None]:
    """Prolongs all that the worker holds, and returns what `held_by` does."""
    until = clock.boot_milliseconds() + terms.lease_milliseconds
    session.execute(update(WorkerRow).where(WorkerRow.id == worker).values(lease_until=until))
    mine = and_(Job.worker == worker, Job.status == JobStatus.RUNNING)
    session.execute(update(Job).where(mine).values(lease_until=until).execution_options(synchronize_session=False))
    return held_by(session, worker)


def held_by(session: Session, worker: str) -> dict[str, JobStatus | None]:
    """The ids of the worker's running jobs, and what people want each to become: cancelled, paused or nothing."""
    asked = select(Job.id, Job.cancel_requested_at, Job.pause_requested_at)
    mine = asked.where(Job.worker == worker, Job.status == JobStatus.RUNNING)
    return {row.id: leases.asked_for(row) for row in session.execute(mine)}


def disown(session: Session, worker: str, kept: Iterable[str], terms: Terms) -> list[str]:
    """Lets go of the worker's running jobs but for those that it has trainers for: the ids of the others."""
    strays = _running().where(Job.worker == worker, Job.id.not_in(list(kept)))
    disowned = [_lease(row) for row in session.execute(strays).all()]
    for lease in disowned:
        leases.lose(session, lease, terms, "its trainer could not be started")
    return [lease.job_id for lease in disowned]


def lost(session: Session, run_path: Path) -> list[Lease]:
    """What workers hold that are gone: of another boot, or with their lock held by nobody.

    It depends on no row but the jobs' own.
    """
    held = session.execute(_running()).all()
    return [_lease(row) for row in held if not _is_there(run_path, row.worker, row.boot)]


def reclaim(session: Session, run_path: Path, found: Iterable[Lease], terms: Terms) -> list[str]:
    """Takes the jobs that were found `lost` from their workers, unless somebody has done so since: their ids.

    Nothing of their attempts is to live any more: of a job that does not start again, nobody would look for it.
    """
    reclaimed = []
    for lease in found:
        with suppress(LeaseLost):
            leases.lose(session, lease, terms, "its worker was lost")
            reclaimed.append(lease.job_id)
    for row in session.execute(select(WorkerRow.id, WorkerRow.boot)).all():
        if not _is_there(run_path, row.id, row.boot):
            unregister(session, row.id)
    return reclaimed


def sweep(run_path: Path) -> None:
    """Removes what dead workers have left of themselves, also of those that were never registered."""
    locks.remove_free(run_path.glob(f"{worker_lock(run_path, '*').name}*"))


def hung(session: Session, run_path: Path, terms: Terms) -> list[str]:
    """Workers that hold their lock, but whose leases all ran out three leases ago."""
    held = union_all(
        select(WorkerRow.id.label("id"), WorkerRow.boot.label("boot"), WorkerRow.lease_until.label("until")),
        select(Job.worker, Job.boot, Job.lease_until).where(Job.status == JobStatus.RUNNING),
    ).subquery()
    overdue = clock.boot_milliseconds() - HUNG_AFTER_LEASES * terms.lease_milliseconds
    silent = select(held.c.id, held.c.boot).group_by(held.c.id, held.c.boot).having(func.max(held.c.until) < overdue)
    return [row.id for row in session.execute(silent) if _is_there(run_path, row.id, row.boot)]


def _running() -> Select[int, str, int, str | None, str | None]:
    return select(Job.seq, Job.id, Job.attempt, Job.worker, Job.boot).where(Job.status == JobStatus.RUNNING)


def _lease(row: Any) -> Lease:
    return Lease(row.seq, row.id, row.attempt, row.worker)


def _is_there(run_path: Path, worker: str, boot: str) -> bool:
    return boot == clock.boot_id() and locks.is_held(worker_lock(run_path, worker))

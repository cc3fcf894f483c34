"""The box: what its workers have, what uses it, and how much waits."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import clock, leases, locks, usage
from service.database import Database
from service.projects import visible
from service.states import JobStatus
from service.tables import Job, Run, WorkerRow
from service.users import Principal

LEAST_DISK = 256 << 20


def view(session: Session, principal: Principal, home: Path, run_path: Path) -> dict[str, Any]:
    """Slots, devices, queue and disk. Jobs that the principal may not see use slots, and are not told of otherwise."""
    running = session.execute(
        select(Job.id, Run.name, Run.user, Job.threads, Job.gpus, Job.worker, Job.started_at)
        .join(Run, Run.seq == Job.seq)
        .where(Job.status == JobStatus.RUNNING, visible(principal))
        .order_by(Job.seq)
    ).all()
    used = session.execute(
        select(Job.worker, func.sum(Job.threads)).where(Job.status == JobStatus.RUNNING).group_by(Job.worker)
    ).all()
    threads_of = {row[0]: int(row[1]) for row in used}
    workers = session.scalars(select(WorkerRow).order_by(WorkerRow.started_at)).all()
    alive = [worker for worker in workers if is_alive(worker, run_path)]
    disk = shutil.disk_usage(home)
    return {
        "workers": [
            {"id": worker.id, "pid": worker.pid, "slots": worker.slots, "started_at": worker.started_at}
            for worker in alive
        ],
        "slots": {
            "total": sum(worker.slots for worker in alive),
            "used": sum(threads_of.get(worker.id, 0) for worker in alive),
        },
        "devices": [device for worker in alive for device in worker.devices],
        "queue_length": session.scalars(
            select(func.count())
            .select_from(Job)
            .join(Run, Run.seq == Job.seq)
            .where(Job.status == JobStatus.QUEUED, visible(principal))
        ).one(),
        "shares": _shares(session, principal),
        "running": [
            {
                "job_id": row.id,
                "name": row.name,
                "user": row.user,
                "threads": row.threads,
                "gpus": row.gpus,
                "started_at": row.started_at,
            }
            for row in running
        ],
        "disk": {"total_bytes": disk.total, "free_bytes": disk.free},
    }


def _shares(session: Session, principal: Principal) -> list[dict[str, Any]]:
    """Each user's part of the box: what runs and waits of what the principal may see, and what was used lately."""
    counted = (
        select(Job.user, Job.status, func.count())
        .join(Run, Run.seq == Job.seq)
        .where(Job.status.in_((JobStatus.RUNNING, JobStatus.QUEUED)), visible(principal))
        .group_by(Job.user, Job.status)
    )
    counts = {(user, status): count for user, status, count in session.execute(counted)}
    used = usage.recent(session)
    return [
        {
            "user": user,
            "running": counts.get((user, JobStatus.RUNNING), 0),
            "queued": counts.get((user, JobStatus.QUEUED), 0),
            "recent_slot_seconds": round(used.get(user, 0.0), 3),
        }
        for user in sorted({user for user, _ in counts} | used.keys())
    ]


def is_alive(worker: WorkerRow, run_path: Path) -> bool:
    """Whether its process lives and has renewed in time."""
    return (
        worker.boot == clock.boot_id()
        and worker.lease_until > clock.boot_milliseconds()
        and locks.is_held(leases.worker_lock(run_path, worker.id))
    )


def has_worker(session: Session, run_path: Path) -> bool:
    return any(is_alive(worker, run_path) for worker in session.scalars(select(WorkerRow)))


def unready(session: Session, database: Database, home: Path, run_path: Path) -> list[str]:
    """Why jobs cannot be taken or trained now, one sentence each; none when all is well."""
    causes = [
        None if database.is_writable() else "the database cannot be written",
        None if shutil.disk_usage(home).free >= LEAST_DISK else f"less than {LEAST_DISK >> 20} MiB of disk are free",
        None if has_worker(session, run_path) else "no worker is alive",
    ]
    return [cause for cause in causes if cause is not None]


@dataclass(frozen=True)
class Counts:
    """What monitoring asks of the whole box, whoever may see the jobs."""

    jobs: dict[JobStatus, int]
    workers: int
    database_bytes: int


def counts(session: Session, database_path: Path, run_path: Path) -> Counts:
    found = session.execute(select(Job.status, func.count()).group_by(Job.status)).all()
    alive = [worker for worker in session.scalars(select(WorkerRow)) if is_alive(worker, run_path)]
    of_status = dict.fromkeys(JobStatus, 0) | {row[0]: row[1] for row in found}
    return Counts(of_status, len(alive), database_path.stat().st_size)

"""The box: what its workers have, what uses it, and how much waits."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from service import clock, crew, disk, locks, usage
from service.database import MOST_LOG_BYTES, Database
from service.projects import visible
from service.settings import Settings
from service.states import JobStatus
from service.tables import Job, Run, WorkerRow
from service.users import Principal


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
    named = {row.id for row in running}
    space = shutil.disk_usage(home)
    return {
        "workers": [
            {"id": worker.id, "pid": worker.pid, "slots": worker.slots, "started_at": worker.started_at}
            for worker in alive
        ],
        "slots": {
            "total": sum(worker.slots for worker in alive),
            "used": sum(threads_of.get(worker.id, 0) for worker in alive),
        },
        "devices": [
            device | {"jobs": [job_id for job_id in device["jobs"] if job_id in named]}
            for worker in alive
            for device in worker.devices
        ],
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
        "disk": {"total_bytes": space.total, "free_bytes": space.free},
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
        and locks.is_held(crew.worker_lock(run_path, worker.id))
    )


def has_worker(session: Session, run_path: Path) -> bool:
    return any(is_alive(worker, run_path) for worker in session.scalars(select(WorkerRow)))


def unready(session: Session, database: Database, settings: Settings) -> list[str]:
    """Why jobs cannot be taken or trained now, one sentence each; none when all is well."""
    causes = [
        None if database.is_writable() else "the database cannot be written",
        disk.lack(settings.home, settings.min_free_mib),
        None if has_worker(session, settings.run_path) else "no worker is alive",
    ]
    return [cause for cause in causes if cause is not None]


def warnings(database: Database, settings: Settings) -> list[str]:
    """What will go wrong later if nobody looks at it, one sentence each."""
    log = database.log_bytes
    found = [
        f"the write-ahead log has grown to {log >> 20} MiB: another program holds an old view of the database"
        if log > MOST_LOG_BYTES
        else None,
        None if disk.has_reserve(settings.home) else "there is no reserve on the disk: free some space",
    ]
    return [warning for warning in found if warning is not None]


@dataclass(frozen=True)
class Counts:
    """What monitoring asks of the whole box, whoever may see the jobs."""

    jobs: dict[JobStatus, int]
    workers: int
    queue_wait_seconds: float
    steps_per_second: float
    database_bytes: int
    log_bytes: int
    disk_bytes: int
    disk_free_bytes: int


def counts(session: Session, database: Database, settings: Settings) -> Counts:
    found = session.execute(select(Job.status, func.count()).group_by(Job.status)).all()
    alive = [worker for worker in session.scalars(select(WorkerRow)) if is_alive(worker, settings.run_path)]
    since = session.scalars(select(func.min(Job.reason_since)).where(Job.status == JobStatus.QUEUED)).one()
    training = and_(Job.status == JobStatus.RUNNING, Job.active_seconds > 0)
    speed = session.scalars(select(func.sum(Job.step / Job.active_seconds)).where(training)).one()
    space = shutil.disk_usage(settings.home)
    return Counts(
        jobs=dict.fromkeys(JobStatus, 0) | {row[0]: row[1] for row in found},
        workers=len(alive),
        queue_wait_seconds=_age(since) if since else 0.0,
        steps_per_second=float(speed or 0),
        database_bytes=database.path.stat().st_size,
        log_bytes=database.log_bytes,
        disk_bytes=space.total,
        disk_free_bytes=space.free,
    )


def _age(moment: str) -> float:
    """Seconds since an RFC 3339 time; none when the clock was set back."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())

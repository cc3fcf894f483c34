"""The box: what its workers have, what uses it, and how much waits."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from service import crew, disk, jobs, usage
from service.database import MOST_LOG_BYTES, Database
from service.projects import visible
from service.settings import Settings
from service.states import JobStatus
from service.tables import Attempt, Job, Run
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
        select(Job.worker, func.sum(Job.threads), func.sum(func.coalesce(Job.memory_mib, 0)))
        .where(Job.status == JobStatus.RUNNING)
        .group_by(Job.worker)
    ).all()
    threads_of = {row[0]: int(row[1]) for row in used}
    memory_of = {row[0]: int(row[2]) for row in used}
    alive = crew.alive(session, run_path)
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
            "out_of_service": sum(each["threads"] for worker in alive for each in worker.out_of_service),
        },
        "memory": {
            "total_mib": sum(worker.memory_mib or 0 for worker in alive),
            "used_mib": sum(memory_of.get(worker.id, 0) for worker in alive),
        },
        "devices": [
            device | {"jobs": [job_id for job_id in device["jobs"] if job_id in named]}
            for worker in alive
            for device in worker.devices
        ],
        "out_of_service": [sentence for worker in alive for sentence in crew.out_of_service(worker)],
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


def unready(session: Session, database: Database, settings: Settings) -> list[str]:
    """Why jobs cannot be taken or trained now, one sentence each; none when all is well."""
    causes = [
        None if database.is_writable() else "the database cannot be written",
        disk.lack(settings.home, settings.min_free_mib),
        None if crew.alive(session, settings.run_path) else "no worker is alive",
    ]
    return [cause for cause in causes if cause is not None]


def warnings(session: Session, database: Database, settings: Settings) -> list[str]:
    """What is not as it should be, or will go wrong later if nobody looks at it, one sentence each."""
    log = database.log_bytes
    found = [
        f"the write-ahead log has grown to {log >> 20} MiB: another program holds an old view of the database"
        if log > MOST_LOG_BYTES
        else None,
        None if disk.has_reserve(settings.home) else "there is no reserve on the disk: free some space",
    ]
    lost = [sentence for worker in crew.alive(session, settings.run_path) for sentence in crew.out_of_service(worker)]
    return [warning for warning in found if warning is not None] + lost


@dataclass(frozen=True)
class Counts:
    """What monitoring asks of the whole box, whoever may see the jobs."""

    jobs: dict[JobStatus, int]
    workers: int
    slots: int
    slots_used: int
    slots_out_of_service: int
    devices_out_of_service: int
    recorder_lag_bytes: int
    queue_wait_seconds: float
    steps_per_second: float
    database_bytes: int
    log_bytes: int
    disk_bytes: int
    disk_free_bytes: int


def counts(session: Session, database: Database, settings: Settings) -> Counts:
    found = session.execute(select(Job.status, func.count()).group_by(Job.status)).all()
    alive = crew.alive(session, settings.run_path)
    used = session.scalars(select(func.sum(Job.threads)).where(Job.status == JobStatus.RUNNING)).one()
    since = session.scalars(select(func.min(Job.reason_since)).where(Job.status == JobStatus.QUEUED)).one()
    training = and_(Job.status == JobStatus.RUNNING, Job.active_seconds > 0)
    speed = session.scalars(select(func.sum(Job.step / Job.active_seconds)).where(training)).one()
    space = shutil.disk_usage(settings.home)
    return Counts(
        jobs=dict.fromkeys(JobStatus, 0) | {row[0]: row[1] for row in found},
        workers=len(alive),
        slots=sum(worker.slots for worker in alive),
        slots_used=int(used or 0),
        slots_out_of_service=sum(each["threads"] for worker in alive for each in worker.out_of_service),
        devices_out_of_service=sum(bool(each.get("out_of_service")) for worker in alive for each in worker.devices),
        recorder_lag_bytes=_lag(session, settings.jobs_path),
        queue_wait_seconds=_age(since) if since else 0.0,
        steps_per_second=float(speed or 0),
        database_bytes=database.path.stat().st_size,
        log_bytes=database.log_bytes,
        disk_bytes=space.total,
        disk_free_bytes=space.free,
    )


def _lag(session: Session, jobs_path: Path) -> int:
    """Bytes that trainers have written to their spools and that are not in the database yet."""
    running = (
        select(Job.id, Attempt.number, Attempt.spool_offset)
        .join(Attempt, Attempt.job == Job.seq)
        .where(Job.status == JobStatus.RUNNING, Attempt.number == Job.attempt)
    )
    lag = 0
    for job_id, attempt, offset in session.execute(running):
        with suppress(FileNotFoundError):  # no step yet
            lag += max(0, (jobs.attempt_folder(jobs_path, job_id, attempt) / "spool").stat().st_size - offset)
    return lag


def _age(moment: str) -> float:
    """Seconds since an RFC 3339 time; none when the clock was set back."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())

"""Jobs as users see them: found by filters, with their progress, their result and their logs."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import plan, runs
from service.errors import NoResult, NotFound
from service.plan import Plan
from service.projects import visible
from service.runs import Filter, Found, as_text
from service.states import TERMINAL, JobStatus
from service.tables import Attempt, Job, Run
from service.users import Principal

COLUMNS: tuple[Any, ...] = (
    Run.id,
    Run.name,
    Run.project,
    Run.user,
    as_text(Run.tags).label("tags"),
    Run.created_at,
    as_text(Job.spec).label("spec"),
    as_text(Job.plan).label("plan"),
    as_text(Job.warnings).label("warnings"),
    Job.status,
    Job.reason_code,
    Job.reason_message,
    Job.reason_since,
    Job.priority,
    Job.attempt,
    Job.step,
    Job.active_seconds,
    Job.retry_of,
    Job.error_code,
    Job.error_message,
    Job.exit_code,
    Job.signal,
    Job.started_at,
    Job.finished_at,
)


def page(
    session: Session, principal: Principal, wanted: Filter, *, after: str | None, limit: int
) -> list[dict[str, Any]]:
    """Views of the jobs behind the job `after`, newest first."""
    query = (
        select(*COLUMNS).join(Job, Job.seq == Run.seq).where(runs.matching(principal, wanted, Job.status)).limit(limit)
    )
    return [view(row) for row in session.execute(runs.behind(query, principal, after))]


def get(session: Session, principal: Principal, job_id: str) -> dict[str, Any]:
    """The view of one job. Raises NotFound."""
    query = select(*COLUMNS).join(Job, Job.seq == Run.seq).where(Run.id == job_id, visible(principal))
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound("job")
    return view(row)


def status(session: Session, principal: Principal, job_id: str) -> JobStatus:
    """Where the job stands. Raises NotFound."""
    query = select(Job.status).join(Run, Run.seq == Job.seq).where(Run.id == job_id, visible(principal))
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound("job")
    return found


def view(row: Found) -> dict[str, Any]:
    """What users see of a job; `row` has COLUMNS. Spec, plan, warnings and tags stay the JSON that is stored."""
    error = None
    if row.error_code is not None:
        error = {
            "code": row.error_code.value,
            "message": row.error_message,
            "exit_code": row.exit_code,
            "signal": row.signal,
        }
    return {
        "id": row.id,
        "object": "job",
        "name": row.name,
        "project": row.project,
        "user": row.user,
        "status": row.status.value,
        "status_reason": {"code": row.reason_code, "message": row.reason_message, "since": row.reason_since},
        "spec": orjson.Fragment(row.spec),
        "plan": orjson.Fragment(row.plan),
        "warnings": orjson.Fragment(row.warnings),
        "tags": orjson.Fragment(row.tags),
        "priority": row.priority,
        "attempt": row.attempt,
        "progress": _progress(row) if row.attempt else None,
        "retry_of": row.retry_of,
        "study_id": None,
        "error": error,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def _progress(row: Found) -> dict[str, Any]:
    counted = Plan.model_construct(**orjson.loads(row.plan))
    steps = np.array([row.step])
    samples = int(plan.samples_at(steps, counted)[0])
    speed = samples / row.active_seconds if row.active_seconds > 0 else None
    remaining = counted.total_samples - samples
    running = row.status is JobStatus.RUNNING
    return {
        "step": row.step,
        "total_steps": counted.total_steps,
        "epoch": float(plan.epochs_at(steps, counted)[0]),
        "samples": samples,
        "samples_per_second": speed,
        "eta_seconds": remaining / speed if speed and running else None,
    }


def result(session: Session, principal: Principal, job_id: str) -> dict[str, Any] | None:
    """The run of a job that succeeded; None while it is not over. Raises NotFound, or NoResult."""
    found = status(session, principal, job_id)
    if found is JobStatus.SUCCEEDED:
        return runs.get(session, principal, job_id)
    if found in TERMINAL:
        raise NoResult(job_id, found)
    return None


@dataclass(frozen=True)
class LogPart:
    content: bytes
    next_offset: int


def attempt_folder(jobs_path: Path, job_id: str, attempt: int) -> Path:
    """Where an attempt keeps its order, its spool, its outcome and its log."""
    return jobs_path / job_id / f"a{attempt}"


def newest_attempt(session: Session, principal: Principal, job_id: str, attempt: int | None) -> int | None:
    """The attempt asked for, else the newest; None when nothing has started. Raises NotFound."""
    query = select(Job.seq, Job.attempt).join(Run, Run.seq == Job.seq).where(Run.id == job_id, visible(principal))
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound("job")
    if attempt is None:
        return row.attempt or None
    known: Sequence[int] = session.scalars(select(Attempt.number).where(Attempt.job == row.seq)).all()
    if attempt not in known:
        raise NotFound("attempt")
    return attempt


def read_log(jobs_path: Path, job_id: str, attempt: int, offset: int, most: int) -> LogPart:
    """Bytes of an attempt's log from `offset` on; nothing behind its end, or when it has not been written yet."""
    # The trainer may do what it likes in its folder: a link or a pipe put in the log's place is not followed.
    try:
        descriptor = os.open(
            attempt_folder(jobs_path, job_id, attempt) / "log",
            os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
        )
    except OSError:
        return LogPart(b"", offset)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            return LogPart(b"", offset)
        content = os.pread(descriptor, most, offset)
        return LogPart(content, offset + len(content))
    finally:
        os.close(descriptor)

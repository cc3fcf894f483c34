"""Jobs as users see them: found by filters, with their progress, their result and their logs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from service import plan, runs
from service.driver import Kept
from service.errors import NoResult, NotFound
from service.projects import visible, visible_to
from service.runs import Filter, as_text
from service.states import TERMINAL, JobStatus, Scope
from service.tables import Attempt, Job, Run
from service.users import Principal

COLUMNS: tuple[Any, ...] = (
    Run.id,
    Run.name,
    Run.project,
    Run.user,
    as_text(Run.tags),
    Run.created_at,
    as_text(Job.spec),
    as_text(Job.plan),
    as_text(Job.warnings),
    as_text(Job.status),
    Job.reason_code,
    Job.reason_message,
    Job.reason_since,
    Job.priority,
    Job.attempt,
    Job.step,
    Job.active_seconds,
    Job.retry_of,
    Job.study_id,
    as_text(Job.error_code),
    Job.error_message,
    Job.exit_code,
    Job.signal,
    Job.started_at,
    Job.finished_at,
)


class Stored(NamedTuple):
    """COLUMNS of one job: tags, spec, plan and warnings as JSON text."""

    id: str
    name: str
    project: str
    user: str
    tags: str
    created_at: str
    spec: str
    plan: str
    warnings: str
    status: str
    reason_code: str
    reason_message: str
    reason_since: str
    priority: int
    attempt: int
    step: int
    active_seconds: float
    retry_of: str | None
    study_id: str | None
    error_code: str | None
    error_message: str | None
    exit_code: int | None
    signal: int | None
    started_at: str | None
    finished_at: str | None


ALL = select(*COLUMNS).join(Job, Job.seq == Run.seq)
NAMED = Run.id == bindparam("id")
VISIBLE = visible_to(bindparam("viewer"))
ONE, ONE_VISIBLE = Kept(ALL.where(NAMED)), Kept(ALL.where(NAMED, VISIBLE))
NEWEST = ALL.order_by(Run.seq.desc()).limit(bindparam("limit"))
PAGE, PAGE_VISIBLE = Kept(NEWEST), Kept(NEWEST.where(VISIBLE))


def page(
    session: Session, principal: Principal, wanted: Filter, *, after: str | None, limit: int
) -> list[dict[str, Any]]:
    """Views of the jobs behind the job `after`, newest first."""
    if after is None and wanted == Filter():
        kept = PAGE if principal.scope is Scope.ADMIN else PAGE_VISIBLE
        rows: Sequence[Any] = kept.rows(session, limit=limit, viewer=principal.user)
    else:
        query = ALL.where(runs.matching(principal, wanted, Job.status)).limit(limit)
        rows = runs.tuples(session, runs.behind(query, principal, after))
    return [view(Stored._make(row)) for row in rows]


def get(session: Session, principal: Principal, job_id: str) -> dict[str, Any]:
    """The view of one job. Raises NotFound."""
    kept = ONE if principal.scope is Scope.ADMIN else ONE_VISIBLE
    for row in kept.rows(session, id=job_id, viewer=principal.user):
        return view(Stored._make(row))
    raise NotFound("job")


def status(session: Session, principal: Principal, job_id: str) -> JobStatus:
    """Where the job stands. Raises NotFound."""
    query = select(Job.status).join(Run, Run.seq == Job.seq).where(Run.id == job_id, visible(principal))
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound("job")
    return found


def view(row: Stored) -> dict[str, Any]:
    """What users see of a job. Spec, plan, warnings and tags stay the JSON that is stored."""
    error = None
    if row.error_code is not None:
        error = {
            "code": row.error_code,
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
        "status": row.status,
        "status_reason": {"code": row.reason_code, "message": row.reason_message, "since": row.reason_since},
        "spec": orjson.Fragment(row.spec),
        "plan": orjson.Fragment(row.plan),
        "warnings": orjson.Fragment(row.warnings),
        "tags": orjson.Fragment(row.tags),
        "priority": row.priority,
        "attempt": row.attempt,
        "progress": _progress(row) if row.attempt else None,
        "retry_of": row.retry_of,
        "study_id": row.study_id,
        "error": error,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def _progress(row: Stored) -> dict[str, Any]:
    counted = plan.stored(row.plan)
    samples = plan.samples_at(row.step, counted)
    speed = samples / row.active_seconds if row.active_seconds > 0 else None
    remaining = counted.total_samples - samples
    running = row.status == JobStatus.RUNNING.value
    return {
        "step": row.step,
        "total_steps": counted.total_steps,
        "epoch": plan.epochs_at(row.step, counted),
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
        raise NotFound("attempt", f"this job has had {row.attempt}" if row.attempt else "this job has had none yet")
    return attempt

"""Routes for what is done to a job that exists: cancel, pause, resume, retry, clone, relabel, delete."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from service import bell, control, jobs, queue
from service.api.access import Submitter
from service.api.answers import Json
from service.api.once import Repeatable, still_there
from service.api.paths import JobId
from service.api.place import Here, Place
from service.api.strict_json import Parsed
from service.api.strict_route import StrictBody, StrictRoute
from service.api.views.jobs import ClonedJob, CloneDryRun, JobView
from service.control import Relabel
from service.states import JobStatus
from service.studies import references
from service.users import Principal

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

CHANGED: dict[int | str, dict[str, Any]] = {200: {"model": JobView}, 202: {"model": JobView}}
MERGE_PATCH = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object", "description": "a JSON merge patch on the spec"}}
        },
    }
}


def _change(here: Place, principal: Principal, job_id: str, act: Callable[[Session, Principal, str], None]) -> Json:
    """The job after an act on it: 202, or 200 when nothing was left to do."""
    with here.database.write() as session:
        before = jobs.status(session, principal, job_id)
        act(session, principal, job_id)
        job = jobs.get(session, principal, job_id)
    bell.ring(here.settings.run_path)
    unchanged = before.value == job["status"] and before is not JobStatus.RUNNING
    return Json(job, 200 if unchanged else 202)


@router.post("/{job_id}/cancel", status_code=202, responses=CHANGED)
def cancel_job(here: Here, principal: Submitter, job_id: JobId) -> Response:
    """A waiting job is cancelled at once, a running one at its next step. 200 when it was cancelled before."""
    return _change(here, principal, job_id, control.cancel)


@router.post("/{job_id}/pause", status_code=202, responses=CHANGED)
def pause_job(here: Here, principal: Submitter, job_id: JobId) -> Response:
    """A running job keeps a checkpoint at its next step and frees its slot; a waiting one leaves the queue."""
    return _change(here, principal, job_id, control.pause)


@router.post("/{job_id}/resume", status_code=202, responses=CHANGED)
def resume_job(here: Here, principal: Submitter, job_id: JobId) -> Response:
    """A paused job waits again, and goes on at the exact step where it stopped."""
    return _change(here, principal, job_id, control.resume)


@router.post("/{job_id}/retry", status_code=201, responses={200: {"model": JobView}, 201: {"model": JobView}})
def retry_job(here: Here, principal: Submitter, job_id: JobId, once: Repeatable) -> Response:
    """A new job with the spec of one that failed or was cancelled; `retry_of` names the old one."""
    with here.database.write() as session:
        new, again = once.earlier(session), True
        if new is None:
            here.require_room()
            new, again = control.retry(session, principal, job_id, here.queue_limits), False
            once.remember(session, new)
        with still_there(again):
            job = jobs.get(session, principal, new)
    bell.ring(here.settings.run_path)
    return Json(job, 200 if again else 201, {"Location": f"/v1/jobs/{new}"})


@router.post(
    "/{job_id}/clone",
    status_code=201,
    responses={200: {"model": ClonedJob | CloneDryRun}, 201: {"model": ClonedJob}},
    openapi_extra=MERGE_PATCH,
)
def clone_job(
    here: Here,
    principal: Submitter,
    job_id: JobId,
    body: StrictBody,
    once: Repeatable,
    dry_run: Annotated[bool, Query(description="tell what would change; nothing is created")] = False,
) -> Response:
    """A new job with a changed spec, and what each change means; with `dry_run` its spec, plan and changes alone."""
    if dry_run:
        with here.database.read() as session:
            made = _cloned(session, principal, job_id, body)
        told = {"spec": made.draft.spec.model_dump(), "plan": made.draft.plan.model_dump()}
        return Json({**told, "warnings": made.draft.warnings, "changes": made.changes})
    with here.database.write() as session:
        new, again = once.earlier(session), True
        if new is None:
            here.require_room()
            made = _cloned(session, principal, job_id, body)
            new, again = queue.submit(session, principal, made.draft, here.queue_limits), False
            once.remember(session, new)
        with still_there(again):
            job = jobs.get(session, principal, new)
            changes = control.changes(session, principal, job_id, new)
    bell.ring(here.settings.run_path)
    return Json({**job, "changes": changes}, 200 if again else 201, {"Location": f"/v1/jobs/{new}"})


def _cloned(session: Session, principal: Principal, job_id: str, body: Parsed) -> control.Clone:
    """Everything wrong with the patch is told at once, whoever found it."""
    patch, problems, notes = references.resolve(session, principal, body.tree)
    made = control.clone(session, principal, job_id, patch, [*body.problems, *problems])
    made.draft.warnings.extend(notes)
    return made


@router.patch("/{job_id}", responses={200: {"model": JobView}})
def relabel_job(here: Here, principal: Submitter, job_id: JobId, body: Relabel) -> Response:
    """Another name or other tags at any time, another priority while the job waits. A tag of null is removed."""
    with here.database.write() as session:
        control.relabel(session, principal, job_id, body)
        return Json(jobs.get(session, principal, job_id))


@router.delete("/{job_id}", status_code=204)
def delete_job(here: Here, principal: Submitter, job_id: JobId) -> Response:
    """Deletes a job that is over, with its run, curves, logs and checkpoints."""
    with here.database.write() as session:
        control.remove(session, principal, job_id)
    control.remove_files(here.settings.jobs_path, job_id)
    return Response(status_code=204)

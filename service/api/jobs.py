"""Routes for jobs: submit, list, look, wait, result, logs."""

from time import monotonic
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from service import bell, disk, errands, explain, intake, job_logs, jobs, outlook, queue
from service.api import formats
from service.api.access import Reader, Submitter
from service.api.answers import Json
from service.api.formats import Wanted, Width
from service.api.listings import Page
from service.api.once import Repeatable, still_there
from service.api.paths import JobId
from service.api.place import Here, Place
from service.api.streams import Stream
from service.api.strict_route import StrictBody, StrictRoute, described_body
from service.api.tail import MANNERS, Tail
from service.api.views.jobs import DryRun, Explanation, JobList, JobView
from service.api.views.runs import WholeRun
from service.errors import FieldProblem, InvalidInput
from service.runs import Filter
from service.spec import JobSpec
from service.states import TERMINAL, JobStatus
from service.studies import references
from service.users import Principal

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

LOG_BYTES = 1 << 20
STOPPING_SECONDS = 1.0  # how soon a request that waits notices that the service stops
TABLE = ["id", "name", "status", "user", "project", "priority", "attempt", "step", "total_steps", "created_at"]


@router.post(
    "",
    status_code=201,
    responses={200: {"model": DryRun}, 201: {"model": JobView}},
    openapi_extra=described_body(JobSpec),
)
def submit_job(
    here: Here,
    principal: Submitter,
    body: StrictBody,
    once: Repeatable,
    dry_run: Annotated[bool, Query(description="check and count only; nothing is created")] = False,
    probe: Annotated[bool, Query(description="with dry_run: train a few steps and measure them")] = False,
) -> Response:
    """Queues a training job. With `dry_run` the answer is the spec with its defaults, the plan and the warnings."""
    if probe and not dry_run:
        raise InvalidInput([FieldProblem("probe", "dry_run_only", "a probe is a part of a dry run: add dry_run=true")])
    if dry_run:
        with here.database.read() as session:
            draft = references.draft(session, principal, body.tree, body.problems)
            found = {"spec": draft.spec.model_dump(), "warnings": draft.warnings}
            data = {
                "data_path": str(here.settings.datasets_path / draft.dataset.id),
                "classes": None if draft.dataset.classes is None else len(draft.dataset.classes),
                "columns": draft.dataset.columns,
            }
            plan = draft.plan.model_dump() | {"estimated_start_at": _start_of(here, session, principal, draft)}
        if not probe:
            return Json(found | {"plan": plan})
        measured = _probed(here, draft, data)
        basis = f"a probe of {measured['steps']} steps"
        estimated = {"estimated_seconds": measured["estimated_seconds"], "estimate_basis": basis}
        return Json(found | {"plan": plan | estimated, "probe": measured})
    with here.database.write() as session:
        job_id, again = once.earlier(session), True
        if job_id is None:
            here.require_room()
            draft = references.draft(session, principal, body.tree, body.problems)
            job_id, again = queue.submit(session, principal, draft, here.queue_limits), False
            once.remember(session, job_id)
        with still_there(again):
            job = jobs.get(session, principal, job_id)
    bell.ring(here.settings.run_path)
    return Json(job, 200 if again else 201, {"Location": f"/v1/jobs/{job_id}"})


def _start_of(here: Place, session: Session, principal: Principal, draft: intake.Draft) -> str | None:
    """When the job would start, if it were submitted now."""
    settings = here.settings
    if disk.lack(settings.home, settings.min_free_mib) is not None:
        return None
    return outlook.start_of(session, principal, draft, settings.run_path, settings.max_running_jobs_per_user)


def _probed(here: Place, draft: intake.Draft, data: dict[str, Any]) -> dict[str, Any]:
    """What a few steps cost. Raises InvalidInput for a job that asks for what this process does not hold."""
    if draft.spec.resources.gpus or draft.spec.resources.processes > 1:
        message = "GPUs and further processes are given to jobs alone: only those with one on the CPU are probed"
        raise InvalidInput([FieldProblem("probe", "cpu_only", message)])
    spec, plan = draft.spec.model_dump(mode="json"), draft.plan.model_dump(mode="json")
    return errands.run("probe", {"spec": spec, "plan": plan, **data}, here.stopping)


@router.get("", responses={200: {"model": JobList}})
async def list_jobs(here: Here, principal: Reader, page: Page, form: Wanted, width: Width = 120) -> Response:
    """Jobs, newest first. Also narrowed by `tag.KEY=VALUE` and `param.NAME=VALUE`, as often as you like."""

    def look(session: Session) -> list[dict[str, Any]]:
        return jobs.page(session, principal, page.filter, after=page.after, limit=page.fetched)

    if page.filter == Filter():
        # A page's worth of rows in the order of their key: that is read in less time than handing it to a thread and
        # back takes beside many others. What a filter has to look through may be anything.
        with here.database.read() as session:
            found = look(session)
    else:
        found = await here.read(look)
    rows = ([_cell(job, name) for name in TABLE] for job in found)
    return formats.listing(found, page.limit, form, TABLE, rows, width)


def _cell(job: dict[str, Any], name: str) -> formats.Cell:
    if name in ("step", "total_steps"):
        progress = job["progress"]
        return progress[name] if progress else None
    cell: formats.Cell = job[name]
    return cell


@router.get("/{job_id}", responses={200: {"model": JobView}})
async def get_job(
    here: Here,
    principal: Reader,
    job_id: JobId,
    wait: Annotated[float, Query(ge=0, le=60, description="seconds to wait for the job's end")] = 0,
) -> Response:
    """One job. With `wait` the answer is held until the job is over or the time is up."""

    # Not in a thread: one row by its key is read in less time than handing it over takes.
    def look() -> dict[str, Any]:
        with here.database.read() as session:
            return jobs.get(session, principal, job_id)

    deadline = monotonic() + wait
    job = look()
    while JobStatus(job["status"]) not in TERMINAL and (left := deadline - monotonic()) > 0:
        if here.stopping.is_set():
            break
        await here.commits.next(min(left, STOPPING_SECONDS))
        job = look()
    return Json(job)


@router.get("/{job_id}/explain", responses={200: {"model": Explanation}})
def explain_job(here: Here, principal: Reader, job_id: JobId) -> Response:
    """Why a job waits: its place in the queue, every cause, when it is expected to start and what that rests on."""
    with here.database.read() as session:
        settings = here.settings
        limits = (settings.run_path, settings.max_running_jobs_per_user)
        return Json(explain.view(session, principal, job_id, *limits, disk.lack(settings.home, settings.min_free_mib)))


@router.get("/{job_id}/result", responses={200: {"model": WholeRun}, 202: {"model": JobView}})
def get_result(here: Here, principal: Reader, job_id: JobId) -> Response:
    """The run's summary: 200 when the job succeeded, 202 while it is not over, 409 when it failed or was cancelled."""
    with here.database.read() as session:
        run = jobs.result(session, principal, job_id)
        return Json(run) if run is not None else Json(jobs.get(session, principal, job_id), 202)


@router.get("/{job_id}/logs", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def get_logs(
    here: Here,
    principal: Reader,
    job_id: JobId,
    offset: Annotated[int, Query(ge=0, lt=2**63, description="bytes to skip")] = 0,
    attempt: Annotated[int | None, Query(ge=1, lt=2**31, description="the newest when not given")] = None,
    follow: Annotated[bool, Query(description="go on until the job ends")] = False,
) -> Response:
    """What the trainer printed, at most 1 MiB at a time; `X-Next-Offset` says where to go on.

    With `follow` all of it, as it comes, until the job ends; a line tells where another attempt begins.
    """
    with here.database.read() as session:
        number = jobs.newest_attempt(session, principal, job_id, attempt)
    if follow:
        tail = Tail(here.settings.jobs_path, principal, job_id, number or 1, offset, alone=attempt is not None)
        return Stream(here, principal, tail.look, MANNERS, "text/plain")
    part = job_logs.Part(b"", offset, more=False)
    if number is not None:
        log = jobs.attempt_folder(here.settings.jobs_path, job_id, number) / "log"
        part = job_logs.read(log, offset, LOG_BYTES)
    return Response(
        part.content, headers={"X-Next-Offset": str(part.next_offset)}, media_type="text/plain; charset=utf-8"
    )

"""Routes for studies: submit, list, look, wait, cancel; their reports as tables, text and pictures."""

from time import monotonic
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator
from starlette.concurrency import run_in_threadpool

from service import bell, charts
from service.api import formats
from service.api.access import Reader, Submitter
from service.api.answers import Json
from service.api.formats import Format, Wanted, Width
from service.api.jobs import STOPPING_SECONDS
from service.api.listings import After, Limit, Word
from service.api.once import Repeatable, still_there
from service.api.paths import in_form
from service.api.place import Here, Place
from service.api.strict_route import StrictBody, StrictRoute, described_body
from service.api.views.studies import StudyDryRun, StudyList, StudyView
from service.errors import NoReport
from service.intake import Draft
from service.pictures import ReportPicture
from service.states import TERMINAL, JobStatus, StudyKind
from service.studies import advance, drafts, records, texts
from service.studies.drafts import Checked
from service.studies.points import Point
from service.studies.records import Filter
from service.studies.requests import SearchRequest, StudyRequestBody
from service.users import Principal

router = APIRouter(prefix="/v1/studies", tags=["studies"], route_class=StrictRoute)

StudyId = Annotated[str, Path(), AfterValidator(in_form("study"))]
TABLE = ["id", "kind", "name", "status", "user", "project", "finished", "total_jobs", "created_at"]


async def wanted_report(
    request: Request,
    given: Annotated[
        Literal["json", "csv", "ndjson", "text", "png", "svg"] | None,
        Query(alias="format", description="instead of the header Accept"),
    ] = None,
) -> Format:
    """The forms of a list, and pictures; not Parquet, of which a report has no columns."""
    return formats.accepted(request, formats.PICTURE_TYPES) if given is None else Format(given)


ReportWanted = Annotated[Format, Depends(wanted_report)]


@router.post(
    "",
    status_code=201,
    responses={200: {"model": StudyDryRun}, 201: {"model": StudyView}},
    openapi_extra=described_body(StudyRequestBody),
)
def submit_study(
    here: Here,
    principal: Submitter,
    body: StrictBody,
    once: Repeatable,
    dry_run: Annotated[bool, Query(description="check and count only; nothing is created")] = False,
) -> Response:
    """Begins a study. With `dry_run` the answer is the jobs that it would create and how many steps they have."""
    with here.database.read() as session:
        study_id = None if dry_run else once.earlier(session)
        made = None if study_id else drafts.check(session, principal, body.tree, body.problems)
    if dry_run and made is not None:
        return Json(_described(made))
    with here.database.write() as session:
        study_id, again = once.earlier(session), True
        if study_id is None and made is not None:
            here.require_room()
            study_id, again = records.create(session, principal, made, here.queue_limits), False
            once.remember(session, study_id)
        assert study_id is not None, "either it was made before, or the request has been checked"
        with still_there(again):
            study = records.get(session, principal, study_id)
    bell.ring(here.settings.run_path)
    return Json(study, 200 if again else 201, {"Location": f"/v1/studies/{study_id}"})


def _described(made: Checked) -> dict[str, Any]:
    """What the study would create. Jobs that are chosen as it goes on stand there as the base has them."""
    known = [_job(point, draft) for point, draft in zip(made.points, made.drafts, strict=True)]
    later = _later(made)
    steps = [job["plan"]["total_steps"] for job in known + later]
    return {
        "kind": made.asked.kind,
        "spec": made.asked.model_dump(mode="json"),
        "jobs": known + later,
        "total_jobs": made.total_jobs,
        "total_steps": sum(steps),
        "warnings": made.base.warnings + made.notes,
    }


def _later(made: Checked) -> list[dict[str, Any]]:
    seed = made.base.spec.hyperparameters.seed
    match made.asked:
        case SearchRequest():
            return [_job(Point({}, seed), made.base) for _ in range(made.asked.trials)]
        case _:
            return [_job(point, draft) for point, draft in made.later]


def _job(point: Point, draft: Draft) -> dict[str, Any]:
    return {
        "name": draft.spec.name,
        "stage": point.stage,
        "parameters": point.parameters,
        "seed": point.seed,
        "spec": draft.spec.model_dump(mode="json"),
        "plan": draft.plan.model_dump(mode="json"),
    }


@router.get("", responses={200: {"model": StudyList}})
def list_studies(
    here: Here,
    principal: Reader,
    form: Wanted,
    status: JobStatus | None = None,
    kind: StudyKind | None = None,
    project: Word = None,
    user: Word = None,
    after: After = None,
    limit: Limit = 50,
    width: Width = 120,
) -> Response:
    """Studies, newest first."""
    wanted = Filter(status, kind, project, user)
    with here.database.read() as session:
        found = records.page(session, principal, wanted, after, limit + 1)
    rows = [[study[name] if name in study else study["progress"][name] for name in TABLE] for study in found]
    return formats.listing(found, limit, form, TABLE, rows, width)


@router.get("/{study_id}", responses={200: {"model": StudyView}})
async def get_study(
    here: Here,
    principal: Reader,
    study_id: StudyId,
    form: ReportWanted,
    wait: Annotated[float, Query(ge=0, le=60, description="seconds to wait for the study's end")] = 0,
    width: Width = 100,
) -> Response:
    """One study. With `wait` the answer is held until it is over or the time is up.

    Tables, text and pictures show its report, the one so far too. Before the first job is over tables show its jobs,
    and a picture is a 409.
    """
    deadline = monotonic() + wait
    while True:
        status = await run_in_threadpool(_status, here, principal, study_id)
        left = deadline - monotonic()
        if status in TERMINAL or left <= 0 or here.stopping.is_set():
            break
        await here.commits.next(min(left, STOPPING_SECONDS))
    return await run_in_threadpool(_answer, here, principal, study_id, form, width)


def _status(here: Place, principal: Principal, study_id: str) -> JobStatus:
    with here.database.read() as session:
        return records.seen(session, principal, study_id).status


def _answer(here: Place, principal: Principal, study_id: str, form: Format, width: int) -> Response:
    with here.database.read() as session:
        study = records.get(session, principal, study_id)
    if form is Format.JSON:
        return Json(study)
    if form is Format.NDJSON:
        return formats.lines([study])
    kind, report = study["kind"], study["report"]
    if form in (Format.PNG, Format.SVG):
        if report is None:
            raise NoReport(study_id, JobStatus(study["status"]))
        wanted = ReportPicture(kind, report, charts.escaped(study["name"]), "png" if form is Format.PNG else "svg")
        return formats.drawn(here.studio.make(wanted), form)
    if form is Format.CSV:
        return formats.table(*_table(study), Format.CSV, width)
    if report is None:
        return formats.table(*_table(study), Format.TEXT, width)
    return formats.text(texts.text(kind, report, width))


def _table(study: dict[str, Any]) -> texts.Table:
    """The rows of the report, or the jobs while there is none."""
    report = study["report"]
    return texts.jobs(study["jobs"]) if report is None else texts.table(study["kind"], report)


@router.post("/{study_id}/cancel", status_code=202, responses={200: {"model": StudyView}, 202: {"model": StudyView}})
def cancel_study(here: Here, principal: Submitter, study_id: StudyId) -> Response:
    """Its waiting jobs end at once, running ones at their next step. 200 when it was cancelled before."""
    with here.database.write() as session:
        changed = records.cancel(session, principal, study_id)
    while advance.advance(here.database, study_id, here.queue_limits):
        pass
    with here.database.read() as session:
        study = records.get(session, principal, study_id)
    bell.ring(here.settings.run_path)
    return Json(study, 202 if changed else 200)

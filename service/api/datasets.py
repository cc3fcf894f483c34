"""Routes for data sets: list, look, upload, register, delete."""

import re
import shutil
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from service import datasets, locks, patterns
from service.api import formats
from service.api.access import Reader, Submitter
from service.api.answers import Json
from service.api.bodies import Upload
from service.api.formats import Wanted, Width
from service.api.listings import AfterName, Limit
from service.api.once import Once, Repeatable, still_there
from service.api.place import Here, Place
from service.api.problems import Refusal
from service.api.strict_route import StrictRoute
from service.api.views.datasets import DatasetList, DatasetVersion, DatasetView
from service.datasets import arrays, arrivals, catalogue
from service.datasets.arrivals import Draft, Said
from service.datasets.catalogue import Arrival
from service.errors import FieldProblem, InvalidInput, QuotaExceeded, Stopping
from service.inspection.found import MEDIA_TYPES, SUFFIXES
from service.settings import Settings
from service.spec import Name, Part
from service.tables import Dataset
from service.users import Principal

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=StrictRoute)

Reference = Annotated[str, Path(pattern=patterns.DATASET, description="NAME, or NAME@VERSION")]
Task = Literal["classification", "regression"]
TABLE = ["name", "version", "kind", "task", "rows", "features", "classes", "bytes", "owner", "description"]

BYTES = {"schema": {"type": "string", "format": "binary"}}
PUT_BODY = {"requestBody": {"required": True, "content": dict.fromkeys(MEDIA_TYPES, BYTES)}}
COLUMNS_IN_LISTS = 100
WRITE_BYTES = 1 << 20  # received before they are written, so that the others are not made to wait for each piece


class Registration(Part):
    """A file below a data root, which is to be a data set where it is."""

    name: Name = Field(description="of the data set")
    path: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(description="absolute")
    target: Annotated[str, StringConstraints(max_length=128)] | None = Field(
        default=None, description="the column to learn, for tables"
    )
    task: Task | None = Field(default=None, description="where the target leaves it open")
    format: Literal["csv", "parquet", "npz", "text"] | None = Field(
        default=None, description="by the ending of the path when not given"
    )


def upload(settings: Settings) -> Upload:
    """What the gate must know. Any path: one that no data set can have is told so, not what its bytes should be."""
    types = frozenset(each.encode() for each in MEDIA_TYPES)
    return Upload("PUT", re.compile(r"/v1/datasets/.+", re.DOTALL), types, settings.max_upload_mib << 20)


@router.get("", responses={200: {"model": DatasetList}})
def list_datasets(
    here: Here, _: Reader, form: Wanted, after: AfterName = None, limit: Limit = 50, width: Width = 120
) -> Response:
    """The newest version of each data set, by name."""
    with here.database.read() as session:
        found = session.scalars(datasets.newest(after, limit + 1)).all()
    rows = [_row(each) for each in found]
    return formats.listing([_named(each) for each in found], limit, form, TABLE, rows, width)


@router.get("/{reference}", responses={200: {"model": DatasetView}})
def get_dataset(here: Here, _: Reader, reference: Reference) -> Response:
    """One data set: its newest version, or the one that is named, and all versions."""
    return Json(_view(here, reference))


@router.put(
    "/{name}",
    status_code=201,
    responses={200: {"model": DatasetView}, 201: {"model": DatasetView}},
    openapi_extra=PUT_BODY,
)
async def put_dataset(
    here: Here,
    principal: Submitter,
    request: Request,
    name: Annotated[str, Path(pattern=patterns.NAME)],
    target: Annotated[str | None, Query(max_length=128, description="the column to learn, for tables")] = None,
    task: Annotated[Task | None, Query(description="where the target leaves it open")] = None,
) -> Response:
    """Takes in a file as a new version. 200 when the same bytes are there already, to be read in the same way."""
    said = Said(name, _format(request), target or None, task)
    said.require_meaning()
    room = await run_in_threadpool(_admit, here, principal, name, int(request.headers.get("content-length", 0)))
    with arrivals.draft(here.settings) as draft:
        await _receive(here, request, draft, room)
        async with here.inspections:
            arrival = await run_in_threadpool(arrivals.received, draft, said, here.stopping.is_set)
        return await run_in_threadpool(_shelve, here, principal, arrival, None)


@router.post("", status_code=201, responses={200: {"model": DatasetView}, 201: {"model": DatasetView}})
async def register_dataset(here: Here, principal: Submitter, asked: Registration, once: Repeatable) -> Response:
    """Makes a file below a data root a data set. `copied` in the answer says whether its arrays had to be copied."""
    earlier = await run_in_threadpool(_earlier, here, once)
    if earlier is not None:
        return earlier
    path = FilePath(asked.path)
    form = asked.format or SUFFIXES.get(path.suffix.lower())
    if form is None:
        message = "the ending of its name tells no format: say csv, parquet, npz or text"
        missing = FieldProblem("format", "missing", message)
        raise InvalidInput([*arrivals.outside_of_roots(path, here.settings), missing])
    said = Said(asked.name, form, asked.target or None, asked.task)
    said.require_meaning()
    await run_in_threadpool(_admit, here, principal, asked.name, 0)
    with arrivals.draft(here.settings) as draft:
        async with here.inspections:
            arrival = await run_in_threadpool(arrivals.registered, draft, said, path, here.stopping.is_set)
        return await run_in_threadpool(_shelve, here, principal, arrival, once)


@router.delete("/{reference}", status_code=204)
def delete_dataset(here: Here, principal: Submitter, reference: Reference) -> Response:
    """NAME@VERSION, or all versions of NAME; 409 while a job that is not over needs one of them."""
    with here.database.write() as session:
        gone = datasets.remove(session, principal, reference)
    for dataset_id in gone:
        shutil.rmtree(here.settings.datasets_path / dataset_id, ignore_errors=True)
    return Response(status_code=204)


def _format(request: Request) -> str:
    """The gate has refused other types, but not a request without a body."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in MEDIA_TYPES:
        raise Refusal(415, "unsupported_media_type", f"the Content-Type must be {' or '.join(MEDIA_TYPES)}")
    return MEDIA_TYPES[given]


def _admit(here: Place, principal: Principal, name: str, coming: int) -> int:
    """Bytes that may come; raises before any is read where that can be told.

    coming: as many as the request says, 0 where it does not.
    """
    here.require_room(coming)
    with here.database.read() as session:
        datasets.require_owner(session, principal, name)
        room = catalogue.room_left(session, principal.user, here.settings.max_datasets_mib_per_user)
    if coming > room:
        raise QuotaExceeded(here.settings.max_datasets_mib_per_user)
    return room


async def _receive(here: Place, request: Request, draft: Draft, room: int) -> None:
    pending = bytearray()
    async for piece in request.stream():
        if here.stopping.is_set():
            raise Stopping
        pending += piece
        if draft.size + len(pending) > room:
            raise QuotaExceeded(here.settings.max_datasets_mib_per_user)
        if len(pending) >= WRITE_BYTES:
            await run_in_threadpool(draft.write, bytes(pending))
            pending.clear()
    await run_in_threadpool(draft.write, bytes(pending))


def _earlier(here: Place, once: Once) -> Response | None:
    with here.database.read() as session:
        dataset_id = once.earlier(session)
        if dataset_id is None:
            return None
        dataset = session.get_one(Dataset, dataset_id)
        reference = f"{dataset.name}@{dataset.version}"
    with still_there(again=True):
        return Json(_view(here, reference))


def _shelve(here: Place, principal: Principal, arrival: Arrival, once: Once | None) -> Response:
    """The start of another part of the service looks for folders without a row: not between the folder and the row."""
    with locks.one_at_a_time(here.settings.run_path, "prepare"), here.database.write() as session:
        dataset_id = once and once.earlier(session)
        made = dataset_id is None
        if dataset_id is None:
            datasets.require_owner(session, principal, arrival.name)
            room = catalogue.room_left(session, principal.user, here.settings.max_datasets_mib_per_user)
            if arrays.size(arrival.folder) > room:
                raise QuotaExceeded(here.settings.max_datasets_mib_per_user)
            dataset, made = catalogue.add(session, principal.user, arrival, here.settings.datasets_path)
            dataset_id = dataset.id
            if once is not None:
                once.remember(session, dataset_id)
        dataset = session.get_one(Dataset, dataset_id)
        reference = f"{dataset.name}@{dataset.version}"
    return Json(_view(here, reference), 201 if made else 200, {"Location": f"/v1/datasets/{reference}"})


def _view(here: Place, reference: str) -> dict[str, Any]:
    with here.database.read() as session:
        shown = datasets.find(session, reference)
        every = [_version(each) for each in datasets.versions(session, shown.name)]
    return {**_named(shown), "columns": shown.columns, "versions": every}


def _named(dataset: Dataset) -> dict[str, Any]:
    about = {"id": dataset.name, "object": "dataset", "name": dataset.name, "description": dataset.description}
    return about | _version(dataset)


SHOWN = tuple(name for name in DatasetVersion.model_fields if name not in ("features", "columns"))


def _version(dataset: Dataset) -> dict[str, Any]:
    """For a list: ten thousand columns of a thousand values each would be too much of it."""
    few = [
        {name: column[name] for name in ("name", "type", "missing")} for column in dataset.columns[:COLUMNS_IN_LISTS]
    ]
    about = {name: getattr(dataset, name) for name in SHOWN}
    return about | {"features": len(dataset.columns), "columns": few}


def _row(dataset: Dataset) -> list[formats.Cell]:
    classes = None if dataset.classes is None else len(dataset.classes)
    counts = [dataset.rows, len(dataset.columns), classes, dataset.bytes]
    about: list[formats.Cell] = [dataset.name, dataset.version, dataset.kind, dataset.task]
    return [*about, *counts, dataset.owner, dataset.description]

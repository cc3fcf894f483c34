"""Routes for what a job keeps of its training."""

import os
import re
from collections.abc import Iterator
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Path as PathParameter, Query, Response
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from starlette.responses import StreamingResponse

from service import checkpoints
from service.api import formats
from service.api.access import Reader
from service.api.formats import Wanted, Width
from service.api.listings import Limit
from service.api.paths import JobId
from service.api.place import Here
from service.api.strict_route import StrictRoute
from service.api.views import Number, View

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

AfterStep = Annotated[int | None, Query(ge=1, lt=2**63, description="the last step of the page before")]


def _which(text: str) -> str:
    if re.fullmatch("best|last|[1-9][0-9]{0,18}", text) is None:
        raise PydanticCustomError("invalid_checkpoint", "write best, last or a step")
    return text


Which = Annotated[str, PathParameter(description="best, last or a step"), AfterValidator(_which)]
MEDIA = "application/octet-stream"
PART_BYTES = 1 << 18
TABLE = ["step", "epoch", "bytes", "sha256", "val_loss", "is_best", "created_at"]


class CheckpointView(View):
    """A state that training can go on from. metrics: of the validation at its step, empty if there was none."""

    step: int
    epoch: float
    bytes: int
    sha256: str
    metrics: dict[str, Number]
    is_best: bool
    created_at: str


class CheckpointList(View):
    data: list[CheckpointView]
    has_more: bool
    next_after: int | None


@router.get("/{job_id}/checkpoints", responses={200: {"model": CheckpointList}})
def list_checkpoints(
    here: Here,
    principal: Reader,
    job_id: JobId,
    form: Wanted,
    after: AfterStep = None,
    limit: Limit = 50,
    width: Width = 120,
) -> Response:
    """What the job has kept, newest first: a pause, a drain and a loss go on from the newest that is whole."""
    with here.database.read() as session:
        found = checkpoints.page(session, principal, job_id, after=after, limit=limit + 1)
    rows = [[each["metrics"].get(name) if name == "val_loss" else each[name] for name in TABLE] for each in found]
    return formats.listing(found, limit, form, TABLE, rows, width, key="step")


@router.get("/{job_id}/checkpoints/{which}/weights", response_class=Response, responses={200: {"content": {MEDIA: {}}}})
def get_weights(here: Here, principal: Reader, job_id: JobId, which: Which) -> Response:
    """The weights of the `best` validation, of the `last` step, or of a step, as safetensors."""
    with here.database.read() as session:
        step, path = checkpoints.weights(session, principal, job_id, which, here.settings.jobs_path)
    file = checkpoints.opened(path)
    headers = {
        "Content-Length": str(os.fstat(file.fileno()).st_size),
        "Content-Disposition": f'attachment; filename="{job_id}-step-{step}.safetensors"',
    }
    return StreamingResponse(_parts(file), headers=headers, media_type=MEDIA)


def _parts(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while part := file.read(PART_BYTES):
            yield part

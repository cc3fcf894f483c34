"""The route that asks a trained model about a small batch of samples."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from service import checkpoints, errands
from service.api.access import Submitter
from service.api.answers import Json
from service.api.paths import JobId
from service.api.place import Here
from service.api.strict_route import StrictRoute
from service.api.views import View
from service.spec import Part

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)


class PredictionRequest(Part):
    """A small batch for the model of a job."""

    inputs: list[Any] = Field(
        min_length=1, max_length=1000, description="samples: rows of numbers, images as nested lists, or texts"
    )
    checkpoint: Annotated[int, Field(ge=1, lt=2**63)] | Literal["best", "last"] | None = Field(
        default=None, description="whose weights: of the best validation, of the last step, or of a step"
    )
    length: int = Field(default=100, ge=1, le=1000, description="bytes that each text is continued by")


class PredictionList(View):
    """`data` has one answer for each sample; `step` is the one that the weights are of."""

    step: int
    data: list[dict[str, Any]]


@router.post("/{job_id}/predictions", responses={200: {"model": PredictionList}})
def predict(here: Here, principal: Submitter, job_id: JobId, body: PredictionRequest) -> Response:
    """What the trained model says. A process of its own answers, which takes some seconds to begin."""
    with here.database.read() as session:
        jobs_path = here.settings.jobs_path
        chosen = checkpoints.for_prediction(session, principal, job_id, body.checkpoint, jobs_path)
    checkpoints.opened(chosen.path).close()
    order = {"weights": str(chosen.path), "inputs": body.inputs, "length": body.length, "classes": chosen.classes}
    answer = errands.run("predict", order, here.stopping)
    return Json({"step": chosen.step, "data": answer["predictions"]})

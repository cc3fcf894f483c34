"""Routes that tell what the box has and what can be trained on it."""

from fastapi import APIRouter, Response

from service import abilities, box
from service.api.access import Reader
from service.api.answers import Json
from service.api.place import Here
from service.api.strict_route import StrictRoute

router = APIRouter(prefix="/v1", tags=["box"], route_class=StrictRoute)


@router.get("/box")
def get_box(here: Here, principal: Reader) -> Response:
    """Workers, slots, devices, the queue's length, running jobs and the disk."""
    with here.database.read() as session:
        return Json(box.view(session, principal, here.settings.home, here.settings.run_path))


@router.get("/tasks")
def get_tasks(_: Reader) -> Response:
    """Tasks with their losses, models and metrics, and the JSON Schema of a spec."""
    return Json(abilities.view())

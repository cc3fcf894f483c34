"""Routes for those who run the service: is it alive, can it work, how is it doing."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service import box
from service.api.access import Reader
from service.api.answers import Json
from service.api.place import Here
from service.api.problems import answer
from service.api.strict_route import StrictRoute

router = APIRouter(tags=["operations"], route_class=StrictRoute)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", openapi_extra={"security": []})
async def healthz() -> Response:
    """Alive: the process answers. Needs no token."""
    return Json({"status": "ok"})


@router.get("/readyz")
def readyz(here: Here, _: Reader, request: Request) -> Response:
    """Ready for jobs: the database can be written, the disk has room and a worker lives; else 503 with the causes."""
    with here.database.read() as session:
        causes = box.unready(session, here.database, here.settings)
        warnings = box.warnings(session, here.database, here.settings)
    if causes:
        return answer(request.state.request_id, 503, "not_ready", "; ".join(causes), headers={"Retry-After": "1"})
    return Json({"status": "ready", "warnings": warnings})


@router.get("/metrics")
def metrics(here: Here, _: Reader) -> Response:
    """For Prometheus, which sends a token of the scope read."""
    with here.database.read() as session:
        counted = box.counts(session, here.database, here.settings)
    return Response(here.measures.exposition(counted), media_type=CONTENT_TYPE_LATEST)

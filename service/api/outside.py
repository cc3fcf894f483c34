"""Routes for runs without a job: begun, filled and ended by a script that trains somewhere else."""

import re

from fastapi import APIRouter, Response

from service import outside, runs, sent
from service.api import strict_json
from service.api.access import Submitter
from service.api.answers import Json
from service.api.bodies import JSON_TYPES, Upload
from service.api.once import Repeatable, still_there
from service.api.paths import RunId
from service.api.place import Here
from service.api.strict_route import StrictRoute, WholeBody, described_body, validated
from service.api.views.runs import PointsTaken, WholeRun
from service.outside import Finish, NewRun
from service.sent import NewPoints, Sent

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=StrictRoute)

POINTS_BODY = Upload("POST", re.compile(r"/v1/runs/[^/]+/points"), JSON_TYPES, 4 << 20)


@router.post("", status_code=201, responses={200: {"model": WholeRun}, 201: {"model": WholeRun}})
def begin_run(here: Here, principal: Submitter, body: NewRun, once: Repeatable) -> Response:
    """Begins a run without a job. It is `running` until the script says how it ended."""
    with here.database.write() as session:
        run_id, again = once.earlier(session), True
        if run_id is None:
            here.require_room()
            run_id, again = outside.begin(session, principal, body), False
            once.remember(session, run_id)
        with still_there(again):
            run = runs.get(session, principal, run_id)
    return Json(run, 200 if again else 201, {"Location": f"/v1/runs/{run_id}"})


@router.post("/{run_id}/points", responses={200: {"model": PointsTaken}}, openapi_extra=described_body(NewPoints))
def add_points(here: Here, principal: Submitter, run_id: RunId, body: WholeBody) -> Response:
    """Adds up to 10 000 points. Each step of a metric stands once, whatever comes again or out of order.

    Of two values for the same step of a metric, the one that came last stays. A curve is in order of its steps.
    """
    points = sent.quickly(body) or Sent.of(validated(NewPoints, strict_json.parse(body)))
    with here.database.write() as session:
        outside.add_points(session, principal, run_id, points)
    return Json({"accepted": len(points.metrics)})


@router.delete("/{run_id}", status_code=204)
def delete_run(here: Here, principal: Submitter, run_id: RunId) -> Response:
    """Deletes a script's run that is over, with its curves. That of a job goes with the job."""
    with here.database.write() as session:
        outside.remove(session, principal, run_id)
    return Response(status_code=204)


@router.post("/{run_id}/finish", responses={200: {"model": WholeRun}})
def finish_run(here: Here, principal: Submitter, run_id: RunId, body: Finish) -> Response:
    """Ends a run that a script began: `succeeded`, `failed` or `cancelled`, which never changes again."""
    with here.database.write() as session:
        outside.finish(session, principal, run_id, body.status)
        return Json(runs.get(session, principal, run_id))

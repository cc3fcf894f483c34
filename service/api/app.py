"""The application: every router behind the gate, and every error in one form."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from service import __version__
from service.api import (
    box,
    checkpoints,
    compare,
    control,
    datasets,
    diagnosis,
    docs,
    events,
    gate,
    housekeeping,
    jobs,
    operations,
    outside,
    predictions,
    problems,
    projects,
    runs,
    studies,
    study_keeper,
    users,
    web,
)
from service.api.gate import Gate
from service.api.limits import Limits
from service.api.measures import Measures
from service.api.place import Place
from service.api.waiting import Commits
from service.database import Database
from service.settings import Settings

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        **{name: {"type": "string"} for name in ("type", "title", "code", "detail", "request_id")},
        "status": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["param", "code", "message"],
                "properties": {name: {"type": "string"} for name in ("param", "code", "message", "hint")},
            },
        },
    },
}

# A request is held against one after the other: what is asked for most stands first.
ROUTERS = (
    jobs.router,
    runs.router,
    compare.router,
    control.router,
    checkpoints.router,
    predictions.router,
    events.router,
    diagnosis.router,
    outside.router,
    studies.router,
    datasets.router,
    box.router,
    users.router,
    projects.router,
    operations.router,
    docs.router,
    web.router,
)


class Application(FastAPI):
    """Says in its schema what the gate demands."""

    def openapi(self) -> dict[str, Any]:
        described = super().openapi()
        described.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
        return described


def create(settings: Settings, database: Database, *, port: int, allowed: Limits) -> Application:
    """port: the one that is really listened on, which requests must name in Host."""
    # Of the driver and for the gate alone: a connection of the pool would cost each request more than the question.
    pooled = database.reader.raw_connection()
    connection: Any = pooled.driver_connection
    pooled.detach()
    watcher = database.watch()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        keeping = [asyncio.create_task(each.keep(place)) for each in (housekeeping, study_keeper)]
        yield
        for task in keeping:
            task.cancel()
        place.studio.close()
        connection.close()
        watcher.close()

    application = Application(
        title="trainbox",
        version=__version__,
        description="A job queue, trainers and every loss curve of a team's training box.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would name whatever host the path says
        lifespan=lifespan,
        responses={
            "default": {
                "description": "what is wrong (RFC 9457)",
                "content": {problems.MEDIA_TYPE: {"schema": PROBLEM}},
            }
        },
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    measures = Measures()
    place = Place(settings, database, Commits(watcher), measures)
    application.state.place = place
    problems.install(application)
    for router in ROUTERS:
        application.include_router(router)
    application.add_middleware(
        Gate,
        connection=connection,
        allowed_hosts=gate.hosts(settings, port),
        limits=allowed,
        measures=measures,
        uploads=[datasets.upload(settings), outside.POINTS_BODY],
    )
    return application

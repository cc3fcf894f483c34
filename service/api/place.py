"""Where a route finds itself: the settings, the database, the next commit, and whether the service is stopping."""

from collections import Counter
from dataclasses import dataclass, field
from threading import Event
from typing import Annotated

from fastapi import Depends, Request

from service import disk
from service.api.measures import Measures
from service.api.waiting import Commits
from service.database import Database
from service.pictures import Studio
from service.queue import QueueLimits
from service.settings import Settings


@dataclass(frozen=True)
class Place:
    """What all routes of one application share."""

    settings: Settings
    database: Database
    commits: Commits
    measures: Measures
    # What lasts longer than a moment looks here now and then, and ends its answer.
    stopping: Event = field(default_factory=Event)
    # Makes pictures; its process is begun with the first one.
    studio: Studio = field(default_factory=Studio)
    # How many streams each token has open. Only the event loop's own thread touches it.
    streams: Counter[str] = field(default_factory=Counter)

    def require_room(self) -> None:
        """Raises DiskFull when nothing new may be taken in."""
        disk.require_room(self.settings.home, self.settings.min_free_mib)

    @property
    def queue_limits(self) -> QueueLimits:
        return QueueLimits(self.settings.max_queued_jobs, self.settings.max_queued_jobs_per_user)


async def place(request: Request) -> Place:
    found: Place = request.app.state.place
    return found


Here = Annotated[Place, Depends(place)]

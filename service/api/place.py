"""Where a route finds itself: the settings, the database, the next commit, and whether the service is stopping."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Annotated, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request
from sqlalchemy.orm import Session

from service import disk
from service.api.measures import Measures
from service.api.waiting import Commits
from service.database import Database
from service.pictures import Studio
from service.queue import QueueLimits
from service.settings import Settings

INSPECTIONS = 2  # at a time

T = TypeVar("T")


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
    # Each file that is read takes a process, its memory and a CPU.
    inspections: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(INSPECTIONS))
    # How many streams each token has open. Only the event loop's own thread touches it.
    streams: Counter[str] = field(default_factory=Counter)
    # Lists are read one after another: side by side, each waits longer for Python's lock than for the database.
    reading: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))

    async def read(self, look: Callable[[Session], T]) -> T:
        """What `look` finds in one view of the database, in a thread: for more than a few rows."""

        def look_up() -> T:
            with self.database.read() as session:
                return look(session)

        return await to_thread.run_sync(look_up, limiter=self.reading)

    def require_room(self, coming: int = 0) -> None:
        """Raises DiskFull when nothing new may be taken in, or not so many bytes."""
        disk.require_room(self.settings.home, self.settings.min_free_mib, coming)

    @property
    def queue_limits(self) -> QueueLimits:
        return QueueLimits(self.settings.max_queued_jobs, self.settings.max_queued_jobs_per_user)


async def place(request: Request) -> Place:
    found: Place = request.app.state.place
    return found


Here = Annotated[Place, Depends(place)]

"""Requests that wait for the database to change: one task asks SQLite's commit counter for all of them."""

import asyncio
from contextlib import suppress

from service.database import Watcher

ASK_SECONDS = 0.02


class Commits:
    """Wakes those who wait at the next commit of any process. Costs nothing while nobody waits."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._changed = asyncio.Event()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    async def next(self, seconds: float) -> None:
        """Returns after the next commit, or after so many seconds."""
        self._waiting += 1
        if self._task is None:
            self._watcher.changed()
            self._task = asyncio.create_task(self._ask())
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)
        finally:
            self._waiting -= 1

    async def _ask(self) -> None:
        while self._waiting:
            await asyncio.sleep(ASK_SECONDS)
            if self._waiting and self._watcher.changed():  # with nobody left, it may be closed by now
                self._changed.set()
                self._changed = asyncio.Event()
        self._task = None

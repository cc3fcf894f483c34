"""Keeps studies going: takes the next step of each open one when something has changed, until the service stops."""

import asyncio
from time import monotonic

import structlog

from service import bell
from service.api.place import Place
from service.studies import advance

log = structlog.get_logger()

IDLE_SECONDS = 1.0  # between looks while no study is open
WATCH_SECONDS = 1.0  # between looks at open ones when nobody commits
PAUSE_SECONDS = 0.1  # at least, between two looks
SHARE = 0.1  # of the time that looking may take, however many jobs there are to look at
LONGEST_SECONDS = 2.0  # between two looks all the same: one that ended a search took long, and will not again


async def keep(place: Place) -> None:
    """Until it is cancelled."""
    while True:
        began = monotonic()
        try:
            is_open = await asyncio.to_thread(_look, place)
        except Exception:  # a database that is busy for once: there is a next time
            log.exception("studies")
            is_open = False
        took = monotonic() - began
        pause = min(max(PAUSE_SECONDS, took / SHARE), LONGEST_SECONDS)
        await asyncio.sleep(pause if is_open else IDLE_SECONDS)
        if is_open:
            await place.commits.next(WATCH_SECONDS)


def _look(place: Place) -> bool:
    changed, is_open = advance.advance_all(place.database, place.queue_limits)
    if changed:
        bell.ring(place.settings.run_path)
    return is_open

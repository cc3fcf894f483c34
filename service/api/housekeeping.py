"""What the API's process does beside answering: it keeps the reserve, trims logs, tidies, sweeps each hour."""

import asyncio
from dataclasses import asdict
from time import monotonic, time

import structlog

from service import disk, outside, retention
from service.api.place import Place
from service.datasets import prepared

log = structlog.get_logger()

LOOK_SECONDS = 15.0
SWEEP_SECONDS = 3600.0


async def keep(place: Place) -> None:
    """Until it is cancelled. A sweep that runs then sees that the service stops, and leaves the rest."""
    swept: float | None = None
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await asyncio.to_thread(_look, place)
            if swept is None or monotonic() - swept > SWEEP_SECONDS:
                # Not at the start: scripts must first have had time to come back to a service that was away.
                if swept is not None:
                    await asyncio.to_thread(_give_up, place)
                swept = monotonic()
                await asyncio.to_thread(_sweep, place)
        except Exception:  # a disk or a database that is busy or full for once: there is a next time
            log.exception("housekeeping")


def _look(place: Place) -> None:
    disk.keep_reserve(place.settings.home, place.settings.min_free_mib)
    place.database.trim_log()
    place.studio.tidy()


def _give_up(place: Place) -> None:
    with place.database.write() as session:
        failed = outside.give_up(session, time())
    if failed:
        log.info("runs of silent scripts have failed", runs=failed)


def _sweep(place: Place) -> None:
    settings = place.settings
    terms = retention.Terms(settings.keep_logs_days, settings.keep_checkpoints_days)
    swept = retention.sweep(place.database, settings.jobs_path, terms, place.stopping.is_set)
    unused = sum(prepared.sweep(folder) for folder in settings.datasets_path.iterdir())
    if any(asdict(swept).values()) or unused:
        log.info("swept", **asdict(swept), prepared=unused)

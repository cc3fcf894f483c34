"""How much of the box each user has had lately: slot-seconds that count half after an hour."""

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import clock
from service.states import JobStatus
from service.tables import Attempt, Job, Usage

HALF_LIFE_SECONDS = 3600.0
GPU_SLOTS = 8.0  # a GPU weighs as much as so many CPU threads


def weight(threads: int, gpus: float) -> float:
    """The slots that a job holds."""
    return threads + GPU_SLOTS * gpus


def charge(session: Session, user: str, slot_seconds: float) -> None:
    """Adds what an attempt has used."""
    now = time.time()
    row = session.get(Usage, user)
    if row is None:
        session.add(Usage(user=user, slot_seconds=slot_seconds, at=now))
    else:
        row.slot_seconds, row.at = decayed(row.slot_seconds, row.at, now) + slot_seconds, now
    session.flush()


def recent(session: Session) -> dict[str, float]:
    """What each user has had lately, attempts that run now included; users without any are left out."""
    now, present = time.time(), clock.boot_milliseconds()
    used = {row.user: decayed(row.slot_seconds, row.at, now) for row in session.scalars(select(Usage))}
    running = (
        select(Job.user, Job.threads, Job.gpus, Attempt.started_ms)
        .join(Attempt, Attempt.job == Job.seq)
        .where(Job.status == JobStatus.RUNNING, Attempt.number == Job.attempt, Attempt.boot == clock.boot_id())
    )
    for user, threads, gpus, started in session.execute(running):
        used[user] = used.get(user, 0.0) + weight(threads, gpus) * max(0, present - started) / 1000
    return used


def decayed(slot_seconds: float, at: float, now: float) -> float:
    """A sum of the time `at` as it counts `now`. A clock set back changes nothing."""
    return float(slot_seconds * 0.5 ** (max(0.0, now - at) / HALF_LIFE_SECONDS))

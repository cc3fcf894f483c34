"""What is thrown away of jobs that are over, and when: spools, and as the operator wishes logs and checkpoints.

Curves are never thrown away, and nothing of a job that is not over.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import delete, select

from service import clock
from service.database import Database
from service.states import TERMINAL
from service.tables import Checkpoint, Job

# All points of a job that is over are in the database; what is left of its spools serves nobody but a curious engineer.
KEEP_SPOOLS = timedelta(hours=1)
JOBS_AT_ONCE = 200
SPOOL, LOGS, CHECKPOINTS = "spool", "log*", "checkpoints"


@dataclass(frozen=True)
class Terms:
    """How many days after a job's end its files are kept; None keeps them for ever."""

    logs_days: float | None
    checkpoints_days: float | None


@dataclass
class Swept:
    """How much a sweep has removed."""

    spools: int = 0
    logs: int = 0
    checkpoints: int = 0


def sweep(database: Database, jobs_path: Path, terms: Terms, stopping: Callable[[], bool] = lambda: False) -> Swept:
    """Removes what has been kept long enough. Safe to repeat, and to be killed at any point.

    stopping: asked now and then; when it says yes, the rest is left for the next sweep.
    """
    swept = Swept()
    before_spools, before_logs, before_checkpoints = (
        _ended_before(each) for each in (KEEP_SPOOLS, _days(terms.logs_days), _days(terms.checkpoints_days))
    )
    # By the folders that are there, not by the rows: what a crash has left between the two is found again.
    names = (entry.name for entry in os.scandir(jobs_path) if entry.is_dir(follow_symlinks=False))
    while not stopping() and (some := list(islice(names, JOBS_AT_ONCE))):
        with database.read() as session:
            over = select(Job.seq, Job.id, Job.finished_at).where(Job.id.in_(some), Job.status.in_(TERMINAL))
            found = session.execute(over).all()
        for job in found:
            folder = jobs_path / job.id
            if job.finished_at < before_spools:
                swept.spools += _remove(path for attempt in _attempts(folder) for path in attempt.glob(SPOOL))
            if job.finished_at < before_logs:
                swept.logs += _remove(path for attempt in _attempts(folder) for path in attempt.glob(LOGS))
            if job.finished_at < before_checkpoints and (folder / CHECKPOINTS).is_dir():
                # The rows first: nobody is shown a checkpoint whose files are gone.
                with database.write() as session:
                    session.execute(delete(Checkpoint).where(Checkpoint.job == job.seq))
                shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
                swept.checkpoints += 1
    return swept


def _days(number: float | None) -> timedelta | None:
    return None if number is None else timedelta(days=number)


def _ended_before(kept: timedelta | None) -> str:
    """The moment that a job must have ended before, as text; nothing is before the empty one."""
    return "" if kept is None else clock.rfc3339(datetime.now(UTC) - kept)


def _attempts(folder: Path) -> Iterator[Path]:
    """The folders of a job's attempts. A link that a trainer has put in the place of one is not followed."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return  # the job was deleted meanwhile
    for entry in entries:
        if entry.name.startswith("a") and entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)


def _remove(paths: Iterator[Path]) -> int:
    removed = 0
    for path in paths:
        with suppress(OSError):
            path.unlink()
            removed += 1
    return removed

"""What a worker does about the other workers of the box: ends those that hang, and takes over from the dead."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import structlog

from service import clock, crew, locks
from service.database import Database
from service.leases import Terms
from workers.processes import end_attempts, is_stopped

log = structlog.get_logger()


def kill_hung(database: Database, run_path: Path, own: str, terms: Terms, renewed: int) -> None:
    """Ends workers that live but do nothing: their jobs come with a later `reclaim`.

    own: the id of this worker. renewed: when it renewed its leases last, in milliseconds since the machine's start.
    """
    with database.read() as session:
        hung = crew.hung(session, run_path, terms)
    for worker in hung:
        lock = crew.worker_lock(run_path, worker)
        pid = locks.holder(lock)
        # Where this one could not renew either, after a sleep or without the database, only a stopped one hangs.
        renewing = clock.boot_milliseconds() - renewed < terms.lease_milliseconds
        if worker == own or pid is None or not (renewing or is_stopped(pid)):
            continue
        if locks.is_open_in(lock, pid):
            log.warning("killing a worker that hangs", worker=worker, pid=pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def reclaim(database: Database, run_path: Path, jobs_path: Path, terms: Terms) -> None:
    """Takes over from dead workers."""
    with database.read() as session:
        lost = crew.lost(session, run_path)
    # Before they are reclaimed: if this worker dies in between, another one does all of it.
    if lost:
        end_attempts({jobs_path / lease.job_id: lease.attempt for lease in lost})
    with database.write() as session:
        reclaimed = crew.reclaim(session, run_path, lost, terms)
    crew.sweep(run_path)
    for job_id in reclaimed:
        log.warning("reclaimed from a lost worker", job=job_id)

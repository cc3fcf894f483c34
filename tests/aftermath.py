"""What must hold of a home whatever was done to it: the sweep after each case of docs/reliability.md."""

import os
import subprocess
import time
from collections.abc import Collection, Iterable
from contextlib import closing, suppress
from pathlib import Path

import psutil

from service import clock, crew, locks
from service.database import sqlite_module
from service.settings import Settings

SWEPT_SECONDS = 10  # in which processes of an ended attempt must be gone

# Steps of the curve that every trainer records, where each must be larger than the one before.
NOT_INCREASING = """
SELECT run FROM (
    SELECT s.run, p.step, lag(p.step, 1, 0) OVER (PARTITION BY p.series ORDER BY p.position) AS before
    FROM points p JOIN series s ON s.id = p.series WHERE s.name = 'train_loss')
WHERE step <= before
"""
# Positions count from 0 without a gap; the summary agrees; and the steps of a job are 1..N, all of them at its success.
NOT_WHOLE = """
SELECT j.id, s.name, s.count, count(p.position), max(p.position), max(p.step), j.status
FROM series s JOIN jobs j ON j.seq = s.run LEFT JOIN points p ON p.series = s.id
GROUP BY s.id
HAVING s.count <> count(p.position) OR coalesce(max(p.position) + 1, 0) <> s.count
    OR (s.name = 'train_loss' AND coalesce(max(p.step), 0) <> s.count)
    OR (s.name = 'train_loss' AND j.status = 'succeeded' AND j.reason_code <> 'stopped_early'
        AND s.count <> json_extract(j.plan, '$.total_steps'))
"""
WITHOUT_CURVE = """
SELECT id FROM jobs WHERE status = 'succeeded' AND seq NOT IN (SELECT run FROM series WHERE name = 'train_loss')
"""
# Attempts are numbered without a gap, one after the other, and only that of a running job is open.
ATTEMPTS_AMISS = """
SELECT j.id FROM jobs j LEFT JOIN attempts a ON a.job = j.seq
GROUP BY j.seq
HAVING count(a.number) <> j.attempt OR coalesce(max(a.number), 0) <> j.attempt
    OR count(a.number) - count(a.finished_at) <> (j.status = 'running')
"""


def check(settings: Settings, acknowledged: Collection[str] = (), logs: Iterable[Path] = ()) -> None:
    """Raises AssertionError when something of the home is not as it must be, whether its service runs or not.

    acknowledged: ids of jobs that were answered with 2xx. logs: further files that may hold no token.
    """
    with closing(sqlite_module().connect(f"file:{settings.database_path}?mode=ro", uri=True)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert opened.execute("PRAGMA foreign_key_check").fetchall() == []
        for amiss in (NOT_INCREASING, NOT_WHOLE, WITHOUT_CURVE, ATTEMPTS_AMISS):
            assert opened.execute(amiss).fetchall() == [], amiss
        known = {row[0] for row in opened.execute("SELECT id FROM jobs")}
        assert known >= set(acknowledged), "what was acknowledged is there"
        held = opened.execute("SELECT id, worker, boot FROM jobs WHERE status = 'running'").fetchall()
    for job_id, worker, boot in held:
        alive = boot == clock.boot_id() and locks.is_held(crew.worker_lock(settings.run_path, worker))
        assert alive, f"{job_id} runs, and nobody is there who runs it"
    assert not zombies(), "an ended process was not waited for"
    _check_secrets(settings, logs)


def check_private(settings: Settings) -> None:
    """Nothing in a home that the service itself has made is for others, whatever the umask was."""
    for path in (settings.home, *settings.home.rglob("*")):
        with suppress(FileNotFoundError):
            assert not path.lstat().st_mode & 0o077, path


def check_stopped(settings: Settings, acknowledged: Collection[str] = (), logs: Iterable[Path] = ()) -> None:
    """As `check`, of a home whose service has been stopped: nothing of it is left, soon after."""
    end = time.monotonic() + SWEPT_SECONDS
    while (left := inside(settings.home)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left, left
    check(settings, acknowledged, logs)
    with closing(sqlite_module().connect(f"file:{settings.database_path}?mode=ro", uri=True)) as opened:
        assert opened.execute("SELECT id FROM jobs WHERE status = 'running'").fetchall() == []


def inside(home: Path) -> list[psutil.Process]:
    """Processes that work somewhere in the home, as trainers and what they start do."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def zombies() -> list[psutil.Process]:
    """Of workers and services below this process; what a test itself has not waited for yet is its own affair."""
    found = []
    for child in psutil.Process(os.getpid()).children(recursive=True):
        with suppress(psutil.Error):
            if child.ppid() != os.getpid() and _stays_a_zombie(child):
                found.append(child)
    return found


def _stays_a_zombie(process: psutil.Process) -> bool:
    end = time.monotonic() + SWEPT_SECONDS
    while process.status() == psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            return True
        time.sleep(0.02)
    return False


def _check_secrets(settings: Settings, logs: Iterable[Path]) -> None:
    """The admin's token stands in the file that the first start left, and nowhere else."""
    if not settings.token_path.exists():
        return
    # By a process of its own: whoever opens the database but SQLite drops the locks of its whole process.
    command = ["grep", "-rlF", "-D", "skip", "-f", str(settings.token_path), str(settings.home), *map(str, logs)]
    found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    assert found.stdout.split() == [str(settings.token_path)]
    token = settings.token_path.read_text().strip()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            assert token not in " ".join(process.cmdline()), process

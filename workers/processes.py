"""Processes on this machine: whose they are, and how those of an older attempt are ended."""

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from service import locks

KILL_SECONDS = 10
MARK = "TRAINBOX_ATTEMPT"  # in the environment of what a trainer starts: `job/attempt`
PR_SET_CHILD_SUBREAPER = 36


class Busy(Exception):
    """Some process still holds the job's lock, though all of its older attempts were killed."""


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent dies, so that its end can be seen.

    Raises OSError.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER was refused")


def machine_memory() -> int:
    """Bytes that this machine has, or the control group in which the worker runs, if that has less."""
    least: int = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # "max" is no number
        least = min(least, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return least


def children() -> list[int]:
    """The pids of this process's own."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal or a debugger, and cannot do a thing."""
    with suppress(psutil.Error):
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    return False


def attempt_of(pid: int) -> str | None:
    """The `job/attempt` that a process belongs to, by its environment, or by where it works if it was only forked."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if (mark := process.environ().get(MARK)) is not None:
            return mark
        folder = Path(process.cwd())
        return f"{folder.parent.name}/{folder.name.removeprefix('a')}"
    return None


def lives(process: psutil.Process) -> bool:
    """Whether it is there and does not only wait to be heard of."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(pid: int) -> None:
    """Nothing happens where it is gone, or has become another user's whom this process has no power over."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def seize(path: Path, attempt: int, seconds: float = KILL_SECONDS) -> int:
    """The job's lock for a new attempt. What is left of its older ones, and holds the lock maybe, is killed first.

    path: in the job's folder. Raises Busy when the lock cannot be had in so many seconds.
    """
    if attempt > 1:
        _end_older(path.parent.name, attempt)
    deadline = time.monotonic() + seconds
    while (descriptor := locks.take(path)) is None:
        if time.monotonic() > deadline:
            raise Busy
        _end_older(path.parent.name, attempt)
        time.sleep(0.02)
    return descriptor


def _end_older(job_id: str, attempt: int) -> None:
    """Kills the processes of a job's attempts up to this one, which has none yet, but of no newer one."""
    for pid in psutil.pids():
        job, _, number = (attempt_of(pid) or "").partition("/")
        if job == job_id and number.isdecimal() and int(number) <= attempt:
            kill(pid)

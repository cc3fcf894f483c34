"""Processes on this machine: whose they are, and how those of an older attempt are ended."""

import ctypes
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path

import psutil

from service import locks

KILL_SECONDS = 10
MARK = "TRAINBOX_ATTEMPT"  # in the environment of what a trainer starts: the folder of its attempt
PR_SET_CHILD_SUBREAPER = 36
CONTROL_GROUPS = Path("/sys/fs/cgroup")


class Busy(Exception):
    """Some process still holds the job's lock, though all of its older attempts were killed."""


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent dies, so that its end can be seen.

    Raises OSError.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER was refused")


def memory_groups() -> list[Path]:
    """Where the kernel tells of the memory of this process's control group, of version 2 or 1.

    In a container the group itself may have another name outside, and what is seen is the top of the tree.
    """
    groups: list[Path] = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # a kernel without them
        return groups
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = CONTROL_GROUPS / controllers
            groups += [top / path.lstrip("/"), top]
    return groups


def machine_memory() -> int:
    """Bytes that this machine has, or the control groups that the worker runs in, if one of them has less."""
    least: int = psutil.virtual_memory().total
    for group in memory_groups():
        for folder, name in product((group, *group.parents), ("memory.max", "memory.limit_in_bytes")):
            with suppress(OSError, ValueError):  # "max" is no number
                least = min(least, int((folder / name).read_text()))
    return least


def memory_kills() -> int:
    """How often the kernel has killed for want of memory: in this control group, or where it does not say, at all."""
    told = [group / name for group in memory_groups() for name in ("memory.events", "memory.oom_control")]
    for path in (*told, Path("/proc/vmstat")):
        with suppress(OSError, KeyError):
            return int(dict(line.split() for line in path.read_text().splitlines())["oom_kill"])
    return 0


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
    """The folder of a process's attempt, by its environment, or by where it works if it was only forked."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return process.environ().get(MARK) or process.cwd()
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
        end_attempts({path.parent: attempt})
    deadline = time.monotonic() + seconds
    while (descriptor := locks.take(path)) is None:
        if time.monotonic() > deadline:
            raise Busy
        end_attempts({path.parent: attempt})
        time.sleep(0.02)
    return descriptor


def end_attempts(newest: Mapping[Path, int]) -> None:
    """Kills the processes of attempts up to the newest given for the folder of a job, and of no newer one.

    By the whole path: a copy of the home, served on the same machine, has jobs of the same ids.
    """
    given = {str(folder.resolve()): attempt for folder, attempt in newest.items()}
    for pid in psutil.pids():
        job, _, name = (attempt_of(pid) or "").rpartition("/a")
        if name.isdecimal() and int(name) <= given.get(job, 0):
            kill(pid)

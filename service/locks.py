"""Locks that the kernel takes back when their holder dies: one API a home, and which workers are alive."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.errors import AlreadyRunning


@contextmanager
def hold_role(run_path: Path, role: str) -> Iterator[None]:
    """Keeps a second process of the same role out of this home. Raises AlreadyRunning, naming the first."""
    path = run_path / f"{role}.lock"
    descriptor = take(path)
    if descriptor is None:
        raise AlreadyRunning(role, holder(path))
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def one_at_a_time(run_path: Path, work: str) -> Iterator[None]:
    """Waits until no other process does the same work."""
    descriptor = os.open(run_path / f"{work}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def take(path: Path) -> int | None:
    """Locks the file, made when missing, and writes this process's id into it: its descriptor, or None if it is held.

    The lock lives until the last process that inherited the descriptor is gone.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def make(path: Path) -> int:
    """A file that nobody else makes, locked before it has its name: whoever finds it free finds its maker dead."""
    draft = path.with_name(f"{path.name}.new")
    while True:
        if (descriptor := take(draft)) is not None:
            with suppress(FileNotFoundError):  # somebody found it before it was locked, and removed it
                draft.rename(path)
                return descriptor
            os.close(descriptor)


def remove_free(paths: Iterable[Path]) -> None:
    """Removes those that `make` made for processes that are gone."""
    for path in paths:
        if not is_held(path):
            path.unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now. A missing file is held by nobody."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who ask at once do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(path: Path) -> int | None:
    """The process id that the holder wrote, if it can be read."""
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def is_open_in(path: Path, pid: int) -> bool:
    """Whether the process has the file open. One of another container, which counts its own, is here somebody else."""
    with suppress(OSError):
        for opened in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if opened.samefile(path):
                    return True
    return False

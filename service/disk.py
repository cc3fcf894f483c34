"""Room on the disk of the home: how much must stay free, and a reserve that is let go when SQLite finds none left.

Even a DELETE needs room for the write-ahead log: without the reserve a full disk could not be emptied through the API.
"""

import os
import shutil
from pathlib import Path

from service.errors import DiskFull

LEAST_FREE_BYTES = 2 << 30
LEAST_FREE_SHARE = 0.05
RESERVE_NAME = "reserve"
RESERVE_BYTES = 64 << 20


def lack(home: Path, min_free_mib: int | None, coming: int = 0) -> str | None:
    """A sentence when less is free than must stay free, else None.

    min_free_mib: how much must; None for 2 GiB or 5 % of the disk, whichever is less. coming: bytes to be written.
    """
    usage = shutil.disk_usage(home)
    least = _least(usage.total, min_free_mib)
    # Room that the reserve gave is not for new things, or they would take it at once and more.
    free = usage.free if has_reserve(home) else usage.free - RESERVE_BYTES
    if free - coming >= least:
        return None
    return f"{max(free, 0) >> 20} MiB of disk are free besides the reserve, and {least >> 20} MiB must stay so"


def require_room(home: Path, min_free_mib: int | None, coming: int = 0) -> None:
    """Raises DiskFull when nothing new may be taken in, or not so many bytes."""
    missing = lack(home, min_free_mib, coming)
    if missing is not None:
        raise DiskFull(f"{missing}: delete jobs that are over, or other files")


def keep_reserve(home: Path, min_free_mib: int | None) -> bool:
    """Makes the reserve when there is room for it and it is not there; whether it is there now."""
    if has_reserve(home):
        return True
    usage = shutil.disk_usage(home)
    if usage.free - RESERVE_BYTES < _least(usage.total, min_free_mib):
        return False
    path = home / RESERVE_NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True


def has_reserve(home: Path) -> bool:
    try:
        return (home / RESERVE_NAME).stat().st_size >= RESERVE_BYTES
    except FileNotFoundError:
        return False


def release_reserve(home: Path) -> None:
    (home / RESERVE_NAME).unlink(missing_ok=True)


def _least(total: int, min_free_mib: int | None) -> int:
    if min_free_mib is not None:
        return min_free_mib << 20
    return min(LEAST_FREE_BYTES, int(LEAST_FREE_SHARE * total))

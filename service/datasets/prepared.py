"""What trainers have prepared of a data set, in a folder of its own: those of the same data use one copy.

It knows no database, and what lies there can be made anew: it is removed when no trainer has used it for a while.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from time import time

FOLDER = "prepared"  # within the folder of a data set: it goes with it, and is no part of its digest
MAKING = ".making"
KEPT_SECONDS = 600.0


def used(place: Path) -> bool:
    """Whether something lies there; it then stays until this process ends."""
    try:
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    flock(folder, LOCK_SH)  # never closed: the kernel gives the lock back
    os.utime(folder)
    return True


@contextmanager
def making(place: Path) -> Iterator[Path]:
    """An empty folder that becomes `place` afterwards, unless it is there then. Others wait, to find it made.

    Raises OSError.
    """
    place.parent.mkdir(mode=0o700, exist_ok=True)
    with place.with_suffix(MAKING).open("wb") as lock:
        flock(lock, LOCK_EX)
        draft = place.with_suffix(".tmp")
        shutil.rmtree(draft, ignore_errors=True)  # of one that was killed
        draft.mkdir(mode=0o700)
        folder = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flock(folder, LOCK_SH)  # it may take longer than what nobody uses is kept
            yield draft
            with suppress(OSError):
                draft.rename(place)
        finally:
            os.close(folder)
            shutil.rmtree(draft, ignore_errors=True)


def sweep(data_folder: Path) -> int:
    """Removes what nobody uses or has used for a while; how many."""
    removed = 0
    with suppress(FileNotFoundError):
        for place in list((data_folder / FOLDER).iterdir()):
            with suppress(OSError):
                removed += _removed(place)
    return removed


def _removed(place: Path) -> bool:
    # The file that makers wait for stays: a new one in its place would let two of them write into one draft.
    if place.suffix == MAKING or time() - place.stat().st_mtime < KEPT_SECONDS:
        return False
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(folder, LOCK_EX | LOCK_NB)
        shutil.rmtree(place)
    finally:
        os.close(folder)
    return True

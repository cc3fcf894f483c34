"""Files in folders where others may do what they like: opened only when they are what they seem to be."""

import errno
import os
import stat
from pathlib import Path


def open_plain(path: Path | str, flags: int = os.O_RDONLY, *, folder: int | None = None) -> int:
    """A descriptor of a regular file with one name. Raises OSError for anything else: a link, a pipe, a second name.

    folder: a descriptor of the folder that the path is relative to.
    """
    # Without O_NONBLOCK, to open a pipe would wait for somebody at its other end.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        os.close(descriptor)
        raise OSError(errno.EPERM, "not a regular file with one name")
    return descriptor

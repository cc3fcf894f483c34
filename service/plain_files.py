"""Plain files below a folder that others may write to: opened without ever following a link."""

import errno
import os
import stat
from pathlib import Path

FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK, to open a pipe would wait for somebody to write.
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_below(root: Path, path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file with one name. Raises OSError for anything else, links on the way too.

    Where the root itself lies behind links, they are the operator's.
    """
    *folders, name = path.relative_to(root).parts
    here = os.open(root, FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, FOLDER | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        descriptor = os.open(name, flags | FILE, dir_fd=here)
    finally:
        os.close(here)
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        os.close(descriptor)
        raise OSError(errno.EPERM, "not a regular file with one name")
    return descriptor

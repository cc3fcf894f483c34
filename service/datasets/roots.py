"""Files outside the home that the operator allows to be registered: opened without ever following a link."""

import os
from collections.abc import Sequence
from pathlib import Path

from service.plain_files import open_plain

FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def root_of(path: Path, roots: Sequence[Path]) -> Path | None:
    """The root that an absolute path lies below, by whole components; None when there is none."""
    if ".." in path.parts or "\0" in str(path):
        return None
    return next((root for root in roots if path != root and path.is_relative_to(root)), None)


def open_below(root: Path, path: Path) -> int:
    """A descriptor of a regular file with one name, to read. Raises OSError for anything else, links on the way too."""
    *folders, name = path.relative_to(root).parts
    here = os.open(root, FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, FOLDER | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        return open_plain(name, folder=here)
    finally:
        os.close(here)

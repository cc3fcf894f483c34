"""Folders outside the home that the operator allows data sets to be registered from."""

from collections.abc import Sequence
from pathlib import Path


def root_of(path: Path, roots: Sequence[Path]) -> Path | None:
    """The root that an absolute path lies below, by whole components; None when there is none."""
    if ".." in path.parts or "\0" in str(path):
        return None
    return next((root for root in roots if path != root and path.is_relative_to(root)), None)

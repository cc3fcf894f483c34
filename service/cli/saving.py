"""Files that answers are written to: what kind they are by their names, and what keeps them from being written."""

from collections.abc import Sequence
from pathlib import Path

from service.cli import screen


def form_of(file: Path, forms: Sequence[str]) -> str:
    """By the end of the name. Raises WrongUse for another one, and where there is no such folder: before anybody waits
    for what is to be written.
    """
    form = file.suffix.removeprefix(".").lower()
    if form not in forms:
        raise screen.WrongUse(f"{file}: the name must end with .{', .'.join(forms)}")
    if not file.parent.is_dir():
        raise screen.WrongUse(f"{file}: there is no folder {file.parent}")
    return form


def write(file: Path, content: bytes) -> None:
    """Raises WrongUse when it cannot be written."""
    try:
        file.write_bytes(content)
    except OSError as error:
        raise screen.WrongUse(f"{file} cannot be written: {error.strerror}") from error

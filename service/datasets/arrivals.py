"""How a file becomes a data set: received or opened, hashed, inspected. What fails leaves nothing behind."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from service import disk, plain_files
from service.datasets import arrays, roots
from service.datasets.arrays import Place
from service.datasets.catalogue import Arrival
from service.errors import FieldProblem, InvalidInput
from service.ids import new_id
from service.inspection import limited
from service.inspection.found import Asked
from service.settings import Settings

MOST_DECODED_BYTES = 8 << 30
LOOK_BYTES = 64 << 20  # received between two looks at the disk


@dataclass(frozen=True)
class Said:
    """What the user says of a file. task: where the target leaves it open."""

    name: str
    format: str
    target: str | None = None
    task: str | None = None

    def require_meaning(self) -> None:
        """Raises InvalidInput for what says nothing of a file of this format, and would be passed over."""
        found = []
        if self.format == "npz" and self.target not in (None, "y"):
            found.append(FieldProblem("target", "no_columns", "an NPZ file has what is to be learned in y"))
        if self.format == "text":
            told = {"target": self.target, "task": self.task}
            message = "a text has no columns: its own bytes are learned"
            found += [FieldProblem(name, "no_columns", message) for name, value in told.items() if value is not None]
        if found:
            raise InvalidInput(found)


@dataclass
class Draft:
    """A folder for one file on its way in: `source`, its bytes, and `arrays`, what they become."""

    settings: Settings
    folder: Path
    source: IO[bytes]
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0

    @property
    def arrays(self) -> Path:
        return self.folder / "arrays"

    def write(self, content: bytes) -> None:
        """Raises DiskFull when little room is left, or OSError."""
        if self.size % LOOK_BYTES + len(content) >= LOOK_BYTES:
            disk.require_room(self.settings.home, self.settings.min_free_mib)
        self.source.write(content)
        self.digest.update(content)
        self.size += len(content)


@contextmanager
def draft(settings: Settings) -> Iterator[Draft]:
    """A folder that is gone afterwards, with all that was not shelved."""
    folder = settings.uploads_path / new_id()
    folder.mkdir(mode=0o700)
    try:
        (folder / "arrays").mkdir(mode=0o700)
        with (folder / "source").open("w+b") as source:
            yield Draft(settings, folder, source)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear(uploads_path: Path) -> None:
    """Removes what a crash has left; only while nobody receives."""
    for place in uploads_path.iterdir():
        shutil.rmtree(place, ignore_errors=True)


def received(made: Draft, said: Said, stopping: Callable[[], bool]) -> Arrival:
    """The upload that a draft holds now. Raises InvalidInput, DiskFull or Stopping."""
    if made.size == 0:
        raise InvalidInput([FieldProblem("body", "empty", "there is nothing in it")])
    made.source.flush()
    found = limited.inspect(made.source.fileno(), made.arrays, _asked(made.settings, said, mapped=False), stopping)
    disk.require_room(made.settings.home, made.settings.min_free_mib)
    return Arrival(
        said.name, said.format, made.digest.hexdigest(), made.size, found, made.arrays, arrays.digest(made.arrays)
    )


def registered(made: Draft, said: Said, path: Path, stopping: Callable[[], bool]) -> Arrival:
    """A file below a data root, whose large arrays are read where they are when their form allows it.

    Raises InvalidInput, DiskFull or Stopping.
    """
    if outside := outside_of_roots(path, made.settings):
        raise InvalidInput(outside)
    root = roots.root_of(path, made.settings.data_roots)
    assert root is not None, "it has just been found"
    try:
        source = os.fdopen(plain_files.open_below(root, path), "rb")
    except OSError:
        raise InvalidInput([_unknown_file(made.settings)]) from None
    with source:
        sha256 = arrays.sha256(source)
        found = limited.inspect(source.fileno(), made.arrays, _asked(made.settings, said, mapped=True), stopping)
        size = os.fstat(source.fileno()).st_size
    for name, place in found.places.items():
        arrays.point(made.arrays, name, Place(str(root), str(path), **place))
    disk.require_room(made.settings.home, made.settings.min_free_mib)
    digest = arrays.digest(made.arrays, {str(path): sha256})
    copied = not found.places
    return Arrival(said.name, said.format, sha256, size, found, made.arrays, digest, str(path), copied)


def outside_of_roots(path: Path, settings: Settings) -> list[FieldProblem]:
    """What is wrong with a path, if that shows before anything is opened."""
    return [_unknown_file(settings)] if roots.root_of(path, settings.data_roots) is None else []


def _unknown_file(settings: Settings) -> FieldProblem:
    """The same for what is not there and what may not be opened: nobody looks around outside of the roots."""
    known = f"data roots: {', '.join(map(str, settings.data_roots))}"
    hint = known if settings.data_roots else "TRAINBOX_DATA_ROOTS names no folder: upload the file instead"
    message = "there is no regular file with one name at this path below a data root"
    return FieldProblem("path", "unknown_file", message, hint)


def _asked(settings: Settings, said: Said, *, mapped: bool) -> Asked:
    free = shutil.disk_usage(settings.home).free
    return Asked(
        format=said.format,
        target=said.target,
        task=said.task,
        mapped=mapped,
        copies_bytes=min(MOST_DECODED_BYTES + (1 << 20), free),
        decoded_bytes=MOST_DECODED_BYTES,
        memory_bytes=settings.inspection_memory_mib << 20,
        cpu_seconds=settings.inspection_seconds,
    )

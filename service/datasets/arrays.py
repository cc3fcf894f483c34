"""The arrays of a data set: `<name>.npy` in its folder, or `<name>.json`, which says where in a registered file.

It knows no database: trainers use it too.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service import plain_files

BLOCK = 1 << 20


class Digest(Protocol):
    def update(self, content: bytes, /) -> None: ...


@dataclass(frozen=True)
class Place:
    """Where an array lies in a registered file, below a root. dtype, shape: as NumPy writes them; in C order."""

    root: str
    path: str
    offset: int
    dtype: str
    shape: list[int]

    def open(self) -> IO[bytes]:
        """Raises OSError when the file is gone, or is not what may be registered any more."""
        return os.fdopen(plain_files.open_below(Path(self.root), Path(self.path)), "rb")


def load(folder: Path | str, name: str) -> NDArray[Any] | None:
    """An array that is read from the disk when it is used, and cannot be written; None when there is none.

    Raises OSError or ValueError when the file that holds it is gone or too short.
    """
    stored, elsewhere = Path(folder) / f"{name}.npy", Path(folder) / f"{name}.json"
    if stored.exists():
        array: NDArray[Any] = np.load(stored, mmap_mode="r", allow_pickle=False)
        return array
    if not elsewhere.exists():
        return None
    place = Place(**json.loads(elsewhere.read_text()))
    with place.open() as file:
        return np.memmap(file, place.dtype, "r", place.offset, tuple(place.shape))


def point(folder: Path, name: str, place: Place) -> None:
    """Says where an array lies, instead of holding it."""
    (folder / f"{name}.json").write_text(json.dumps(asdict(place)))


def digest(folder: Path | str, known: Mapping[str, str] | None = None) -> str:
    """SHA-256 over the arrays in order of their names, and over the files that hold some of them.

    known: SHA-256 of such files by their paths, for one who has just read them. Raises OSError.
    """
    total = hashlib.sha256()
    files = dict(known or {})
    for path in sorted(path for path in Path(folder).iterdir() if path.suffix in (".npy", ".json")):
        with path.open("rb") as file:
            add(total, file)
        if path.suffix == ".json":
            place = Place(**json.loads(path.read_text()))
            if place.path not in files:
                with place.open() as file:
                    files[place.path] = sha256(file)
            total.update(files[place.path].encode())
    return total.hexdigest()


def sha256(file: IO[bytes]) -> str:
    found = hashlib.sha256()
    add(found, file)
    return found.hexdigest()


def add(total: Digest, file: IO[bytes]) -> None:
    while block := file.read(BLOCK):
        total.update(block)


def size(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(path.stat().st_size for path in folder.iterdir())

"""The spool: the points of one attempt, appended by its trainer and read by the recorder. It knows no torch.

A file is a header, then records of 28 bytes. The header is 8 bytes of `MAGIC`, a little-endian 32-bit length, and so
many bytes of JSON: the names of the series, to which `series` of a record is an index. Offsets count bytes of records
alone, so that 0 is the first record of any spool.

The highest indexes name no series: their records are marks. RESUMED comes first, if at all, and says that the attempt
goes on behind its step. CHECKPOINT says that the one of its step is on the disk: all points up to it stand before it,
and maybe later ones, as it is written beside the training. INEXACT says that a further sentence stands in the file
beside the spool: its value is the place of it.
"""

import json
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAGIC = b"TBSPOOL1"
RECORD = np.dtype([("series", "<u4"), ("step", "<i8"), ("value", "<f8"), ("time", "<f8")])
MOST_BYTES = 1 << 20
CHECKPOINT, RESUMED, INEXACT = 2**32 - 1, 2**32 - 2, 2**32 - 3

_START = struct.Struct("<8sI")

Records = NDArray[np.void]
Source = Path | str | int  # an integer is an open file descriptor


class NotASpool(ValueError):
    """The file begins with something else."""

    def __init__(self, path: Source) -> None:
        super().__init__(f"{path} is not a spool file")
        self.path = path


class Writer:
    """The trainer's end. What `append` has written survives the death of the process. Threads take turns."""

    def __init__(self, path: Path | str, names: Sequence[str]) -> None:
        """Raises FileExistsError: two trainers of one attempt would mix their points."""
        self._path, self._turn = path, threading.Lock()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        text = json.dumps(list(names)).encode()
        self._write(_START.pack(MAGIC, len(text)) + text)

    def append(self, records: Records) -> None:
        """records: of dtype RECORD, shape (n,). Raises OSError when the disk is full; a torn tail may remain."""
        self._write(records.tobytes())

    def doubt(self, sentence: str, place: int, step: int, time: float) -> None:
        """Says what keeps the points from coming out the same again. place: how many sentences there were before."""
        with open(_doubts(self._path), "a", encoding="utf-8") as file:
            file.write(json.dumps(sentence) + "\n")
        self.append(np.array([(INEXACT, step, place, time)], RECORD))

    def close(self) -> None:
        os.close(self._file)

    def _write(self, content: bytes) -> None:
        # Without turns, a mark could stand within a record of which a full disk has taken a part.
        with self._turn:
            written = os.write(self._file, content)
            # A full disk takes a part in silence; only the next write says why.
            while written < len(content):
                written += os.write(self._file, content[written:])


def names(path: Source) -> list[str]:
    """The series of a spool; none while the file is missing or its header not complete.

    Raises NotASpool.
    """
    with _opened(path) as file:
        header = _header(file, path) if file is not None else None
    return header[0] if header else []


def read(path: Source, offset: int, most_bytes: int = MOST_BYTES) -> tuple[Records, int]:
    """(records, next_offset): the whole records from an offset on, at most so many bytes of them, but at least one.

    A record of which only a part is written yet is left for the next time. A missing file has no records.
    Raises NotASpool.
    """
    with _opened(path) as file:
        if file is None or (header := _header(file, path)) is None:
            return np.empty(0, RECORD), offset
        content = os.pread(file, max(most_bytes, RECORD.itemsize), header[1] + offset)
    count = len(content) // RECORD.itemsize
    return np.frombuffer(content, RECORD, count), offset + count * RECORD.itemsize


def doubts(path: Path | str) -> list[str]:
    """The sentences that the marks INEXACT of a spool tell of; none where the file is gone. Raises ValueError."""
    try:
        return [json.loads(line) for line in _doubts(path).read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []


def _doubts(path: Path | str) -> Path:
    return Path(f"{path}.inexact")


@contextmanager
def _opened(path: Source) -> Iterator[int | None]:
    if isinstance(path, int):
        yield path
        return
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)


def _header(file: int, path: Source) -> tuple[list[str], int] | None:
    """(names, bytes of the header), or None while it is not complete."""
    start = os.pread(file, _START.size, 0)
    if not MAGIC.startswith(start[: len(MAGIC)]):
        raise NotASpool(path)
    if len(start) < _START.size:
        return None
    _, length = _START.unpack(start)
    text = os.pread(file, length, _START.size)
    return (json.loads(text), _START.size + length) if len(text) == length else None

"""What trainers print: one file an attempt, of which only the beginning and the end are kept when it grows too large.

Trainers write to the file themselves and wait for nobody. What is left out of the middle becomes a hole in the file,
so that the offset of every other byte stays what it was; `log.cut` beside it says where the hole is.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EOPNOTSUPP
from pathlib import Path

from service.plain_files import open_plain

LINE_BYTES = 64 << 10
LONG_LINE = " … the rest of this line is left out".encode()
KEEP_SIZE, PUNCH_HOLE = 0x01, 0x02  # of fallocate(2)


@dataclass(frozen=True)
class Part:
    """Bytes to show, the offset to go on at, and whether there is more behind it now."""

    content: bytes
    next_offset: int
    more: bool


def read(log: Path, offset: int, most: int) -> Part:
    """At most so many bytes of a log, and what is shown in the place of others; none while it is not there.

    Lines are cut at 64 KiB.
    """
    with _opened(log, os.O_RDONLY) as file:
        if file is None:
            return Part(b"", offset, False)
        size = os.fstat(file).st_size
        if offset >= size:
            return Part(b"", offset, False)
        begin, end = _cut(log)
        marker = b""
        if begin <= offset < end:
            marker = f"\n--- {end - offset} bytes are left out here ---\n".encode()
            offset = end
        elif offset < begin:
            most = min(most, begin - offset)
        content = os.pread(file, most, offset)
        before = os.pread(file, LINE_BYTES, max(0, offset - LINE_BYTES))[: min(offset, LINE_BYTES)]
    column = 0 if marker else len(before) - 1 - before.rfind(b"\n")
    after = offset + len(content)
    return Part(marker + _shortened(content, column), after, after < size)


def trim(log: Path, most: int) -> None:
    """Takes the middle out of a log that is larger than so many bytes: half of them stay of each end.

    Raises OSError.
    """
    with _opened(log, os.O_RDWR) as file:
        if file is None:
            return
        size = os.fstat(file).st_size
        begin, end = _cut(log)
        if size - (end - begin) <= most:
            return
        begin, end = begin or most // 2, size - most // 2
        draft = log.with_name("log.cut.tmp")
        draft.write_text(f"{begin} {end}")
        draft.rename(log.with_name("log.cut"))
        _punch(file, begin, end - begin)


def _shortened(content: bytes, column: int) -> bytes:
    """The lines, each without what is behind its first 64 KiB. column: bytes of the first one that came before."""
    if column + len(content) <= LINE_BYTES:
        return content
    kept = []
    for line in content.split(b"\n"):
        room = max(0, LINE_BYTES - column)
        kept.append(line if len(line) <= room else line[:room] + (LONG_LINE if room else b""))
        column = 0
    return b"\n".join(kept)


def _cut(log: Path) -> tuple[int, int]:
    """(begin, end) of what is left out; (0, 0) if nothing is."""
    with suppress(OSError, ValueError):
        begin, end = log.with_name("log.cut").read_text().split()
        return int(begin), int(end)
    return 0, 0


def _punch(file: int, offset: int, length: int) -> None:
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    # A file system without holes keeps the bytes; they are not shown any more.
    if fallocate(file, PUNCH_HOLE | KEEP_SIZE, offset, length) and ctypes.get_errno() != EOPNOTSUPP:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def _opened(log: Path, flags: int) -> Iterator[int | None]:
    """The file, if it is one."""
    # The trainer may do what it likes in its folder: a link or a pipe put in the log's place is not followed.
    try:
        file = open_plain(log, flags)
    except OSError:
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)

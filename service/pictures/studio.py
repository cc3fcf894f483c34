"""The process that makes pictures: begun with the first one, and gone when nothing has been asked of it for a while."""

import pickle
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from select import select
from time import monotonic
from typing import IO

from service.errors import ServiceError
from service.pictures.requests import Wanted

IDLE_SECONDS = 120.0
MOST_SECONDS = 60.0  # for one picture, the start of the process included
LENGTH = struct.Struct("<q")  # of the message behind it; negative for the words of a failure


class StudioFailed(ServiceError):
    """The picture was not made; the curves themselves are fine."""

    def __init__(self) -> None:
        super().__init__("the picture could not be made; the same curves come as json, csv or text")


class Studio:
    """One process, and one picture at a time. Safe to be asked by several threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._taken = threading.Lock()

    def make(self, wanted: Wanted) -> bytes:
        """The file. Raises StudioFailed."""
        # Pickled data goes only this way, to a process of our own; what comes back is bytes.
        message = pickle.dumps(wanted, protocol=pickle.HIGHEST_PROTOCOL)
        with self._taken:
            for _ in range(2):  # one that was idle may have left between the look and the request
                process = self._running()
                try:
                    return _ask(process, message)
                except (BrokenPipeError, EOFError):
                    self._end()
                except (TimeoutError, StudioFailed):
                    self._end()
                    raise StudioFailed from None
        raise StudioFailed

    def tidy(self) -> None:
        """Takes leave of a process that has left, which otherwise stays in the system's list until the next picture."""
        if self._taken.acquire(blocking=False):
            try:
                if self._process is not None and self._process.poll() is not None:
                    self._end()
            finally:
                self._taken.release()

    def close(self) -> None:
        with self._taken:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service.pictures"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    assert pipe is not None
                    pipe.close()
            self._process.wait()
            self._process = None


def _ask(process: subprocess.Popen[bytes], message: bytes) -> bytes:
    """Raises BrokenPipeError or EOFError when nobody is there, TimeoutError, or StudioFailed."""
    assert process.stdin is not None
    assert process.stdout is not None
    until = monotonic() + MOST_SECONDS
    _write(process.stdin, LENGTH.pack(len(message)) + message)
    (length,) = LENGTH.unpack(_read(process.stdout, LENGTH.size, until))
    content = _read(process.stdout, abs(length), until)
    if length < 0:
        raise StudioFailed
    return content


def _write(pipe: IO[bytes], message: bytes) -> None:
    rest = memoryview(message)
    while rest:
        rest = rest[pipe.write(rest) :]


def _read(pipe: IO[bytes], count: int, until: float) -> bytes:
    found = bytearray()
    while len(found) < count:
        ready, _, _ = select([pipe], [], [], max(0.0, until - monotonic()))
        if not ready:
            raise TimeoutError
        part = pipe.read(count - len(found))
        if not part:
            raise EOFError
        found += part
    return bytes(found)

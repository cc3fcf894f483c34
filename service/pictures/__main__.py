"""The process that makes pictures: a request on its input, a file on its output, until nothing more is asked."""

import os
import pickle
import signal
import traceback
from select import select
from typing import IO

from service.pictures.requests import Picture, ReportPicture, Wanted
from service.pictures.studio import IDLE_SECONDS, LENGTH


def make(wanted: Wanted) -> bytes:
    """The file. What each kind takes is imported when the first one is asked for."""
    if isinstance(wanted, Picture):
        from service.pictures import drawing

        return drawing.draw(wanted)
    if isinstance(wanted, ReportPicture):
        from service.pictures import reports

        return reports.draw(wanted)
    from service.pictures.parquet import write

    return write(wanted)


def _whole(pipe: IO[bytes], count: int) -> bytes:
    found = bytearray()
    while len(found) < count and (part := pipe.read(count - len(found))):
        found += part
    return bytes(found)


def serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    while True:
        ready, _, _ = select([asked], [], [], IDLE_SECONDS)
        head = _whole(asked, LENGTH.size) if ready else b""
        if len(head) < LENGTH.size:
            return
        (length,) = LENGTH.unpack(head)
        try:
            content = make(pickle.loads(_whole(asked, length)))  # noqa: S301 - of the parent, which made the pipe
            answers.write(LENGTH.pack(len(content)) + content)
        except Exception:
            traceback.print_exc()
            answers.write(LENGTH.pack(-1) + b"!")
        answers.flush()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which is meant for the service
    os.nice(5)  # a picture may take longer than an answer to somebody else
    # What a library prints must not get between the files.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # Unbuffered, so that `select` sees what there is.
    serve(os.fdopen(0, "rb", buffering=0), answers)


if __name__ == "__main__":
    main()

"""How a worker learns at once that there is work: a named pipe for each worker that anybody may ring."""

import errno
import os
from contextlib import suppress
from pathlib import Path


class Bell:
    """A worker's own bell: readable when somebody rang."""

    def __init__(self, run_path: Path, worker: str) -> None:
        self._path = run_path / f"worker-{worker}.bell"
        unheard = run_path / f"worker-{worker}.bell.new"  # who rings a bell that nobody has opened yet removes it
        os.mkfifo(unheard, 0o600)
        # Open for writing too: with no writer left, a pipe is readable for ever.
        self._descriptor = os.open(unheard, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        unheard.rename(self._path)

    def fileno(self) -> int:
        return self._descriptor

    def answer(self) -> None:
        """Empties the pipe, so that the next ring is noticed."""
        with suppress(BlockingIOError):
            while os.read(self._descriptor, 4096):
                pass

    def close(self) -> None:
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)


def ring(run_path: Path) -> None:
    """Wakes every worker of this home. One that is not there is passed over; one that is busy looks later anyway."""
    for path in run_path.glob("worker-*.bell"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:  # its worker died
                path.unlink(missing_ok=True)
            continue
        with suppress(OSError):
            os.write(descriptor, b"!")
        os.close(descriptor)

"""Lines between the leader and the others of a crew: named pipes, since a message of a byte by gloo costs a small step.

The leader says words, one before each step; the others say their shares of the losses, which it reads when it writes
points. It knows no torch.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_LOSS = struct.Struct("<d")


class LineCut(Exception):
    """The process at the other end is gone."""


@dataclass(frozen=True)
class Line:
    """One end. heard, said: descriptors of a pipe to read and of one to write."""

    heard: int
    said: int

    def say(self, content: bytes) -> None:
        """Raises LineCut."""
        try:
            os.write(self.said, content)  # so few bytes are written whole or, where the pipe is full, waited for
        except BrokenPipeError as error:
            raise LineCut("a process of the crew was lost") from error

    def hear(self) -> int:
        """One byte, waited for. Raises LineCut."""
        content = os.read(self.heard, 1)
        if not content:
            raise LineCut("a process of the crew was lost")
        return content[0]

    def say_loss(self, loss: float) -> None:
        """Raises LineCut."""
        self.say(_LOSS.pack(loss))

    def hear_losses(self, count: int) -> NDArray[np.float64]:
        """So many, waited for: fewer when the process at the other end is gone, and has said no more."""
        content = b""
        while missing := count * _LOSS.size - len(content):
            if not (part := os.read(self.heard, missing)):
                break
            content += part
        return np.frombuffer(content, "<f8", len(content) // _LOSS.size)


def lay(meeting: Path, rank: int, count: int, meet: Callable[[], object]) -> list[Line]:
    """The lines of the leader to each of the others in their order, or that of another one to the leader.

    meeting: a file that only they know; the pipes lie beside it, until they are open. meet: waits for all processes.
    """
    if rank:
        words, losses = _paths(meeting, rank)
        os.mkfifo(words, 0o600)
        os.mkfifo(losses, 0o600)
        meet()
        # Each opening waits for the other end, so both sides open in the same order.
        heard = os.open(words, os.O_RDONLY | os.O_CLOEXEC)
        return [Line(heard, os.open(losses, os.O_WRONLY | os.O_CLOEXEC))]
    meet()
    laid = []
    for other in range(1, count):
        words, losses = _paths(meeting, other)
        said = os.open(words, os.O_WRONLY | os.O_CLOEXEC)
        laid.append(Line(os.open(losses, os.O_RDONLY | os.O_CLOEXEC), said))
        words.unlink()
        losses.unlink()
    return laid


def _paths(meeting: Path, rank: int) -> tuple[Path, Path]:
    return meeting.with_name(f"{meeting.name}.{rank}.words"), meeting.with_name(f"{meeting.name}.{rank}.losses")

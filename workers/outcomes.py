"""How an attempt ended, in the words of its trainer."""

import errno
import json
import resource
import traceback
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from pydantic import TypeAdapter

from service.states import EndReason

BYTES = 4096  # that the file of an outcome may have
MESSAGE_LENGTH = 500

# What PyTorch says, in a RuntimeError, when the machine has no memory left.
OUT_OF_MEMORY = ("not enough memory", "DefaultCPUAllocator")


class Status(Enum):
    SUCCEEDED = "succeeded"
    STOPPED_EARLY = "stopped_early"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. code: why, if it failed. steps: how many there were, all of them in the spool."""

    status: Status
    message: str
    steps: int
    code: EndReason | None = None

    def to_json(self) -> str:
        code = self.code.value if self.code else None
        return json.dumps({"status": self.status.value, "code": code, "message": self.message, "steps": self.steps})

    @classmethod
    def from_json(cls, content: bytes) -> "Outcome":
        """Raises ValueError for what `to_json` does not write: the file lies where a job may write too."""
        return WRITTEN.validate_json(content)


WRITTEN = TypeAdapter(Outcome)


def failure(error: Exception, steps: int) -> Outcome:
    """Of an attempt that an error ended after so many steps; a traceback goes to the log when nobody foresaw it."""
    reason = _reason(error)
    expected = reason in (EndReason.NON_FINITE, EndReason.INPUT_CHANGED)
    if not expected:
        # A log that cannot be written, for want of disk or memory, must not hide how the attempt ended.
        with suppress(OSError, MemoryError):
            traceback.print_exception(error)
    kind = "" if expected else f"{type(error).__name__}: "
    if reason is EndReason.OOM_HOST:
        most = resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20
        kind = f"the trainer needed more than the {most} MiB of memory that it may have: {kind}"
    message = f"{kind}{' '.join(str(error).split())}".removesuffix(": ")
    return Outcome(Status.FAILED, message[:MESSAGE_LENGTH], steps, reason)


def _reason(error: Exception) -> EndReason:
    import torch

    from workers.training.data import InputChanged
    from workers.training.tape import NonFinite

    match error:
        case NonFinite():
            return EndReason.NON_FINITE
        case InputChanged():
            return EndReason.INPUT_CHANGED
        case torch.OutOfMemoryError():
            return EndReason.OOM_DEVICE
        case MemoryError() | OSError(errno=errno.ENOMEM):
            return EndReason.OOM_HOST
        case RuntimeError() if any(words in str(error) for words in OUT_OF_MEMORY):
            return EndReason.OOM_HOST
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return EndReason.DISK_FULL
        case _:
            return EndReason.ERROR

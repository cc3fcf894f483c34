"""How an attempt ended, judged from what its trainer left: exit status, outcome file and recorded steps."""

import os
import signal
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from service.states import EndReason
from workers.outcomes import Outcome, Status


class Asked(Enum):
    """Why the worker asked a trainer to stop."""

    CANCEL = "cancel"
    PAUSE = "pause"
    DRAIN = "drain"
    TIME_LIMIT = "time_limit"


@dataclass(frozen=True)
class Succeeded:
    """With all steps, or with fewer for the sentence of early stopping."""

    early: str | None = None


@dataclass(frozen=True)
class Stopped:
    """As the user asked."""


@dataclass(frozen=True)
class Drained:
    """The worker goes and the job waits again, or people want it to pause."""


@dataclass(frozen=True)
class Lost:
    """Through no fault of the job: it starts again while attempts remain."""

    message: str
    signal: int | None
    reason: EndReason = EndReason.WORKER_LOST


@dataclass(frozen=True)
class Failed:
    reason: EndReason
    message: str
    exit_code: int | None = None
    signal: int | None = None


Ending = Succeeded | Stopped | Drained | Lost | Failed


def judge(
    outcome: Outcome | None,
    wait_status: int,
    steps: int,
    total_steps: int,
    asked: Asked | None,
    killed_for_memory: bool,
    stalled_for: float | None = None,
    may_stop_early: bool = False,
) -> Ending:
    """outcome: what the trainer wrote, None if it could not. steps: points of train_loss that were recorded.

    stalled_for: seconds without a step after which the worker killed it. may_stop_early: the job asked for early
    stopping; without that only all steps are a success.
    """
    code = os.waitstatus_to_exitcode(wait_status)
    exit_code, number = (code, None) if code >= 0 else (None, -code)
    status = outcome.status if outcome else None
    if asked is Asked.CANCEL:
        return Stopped()
    if status is Status.SUCCEEDED and exit_code == 0:
        if steps == total_steps:
            return Succeeded()
        return Failed(EndReason.ERROR, f"the trainer ended with {steps} of {total_steps} steps", exit_code)
    if outcome and status is Status.STOPPED_EARLY and exit_code == 0:
        if may_stop_early and 0 < steps == outcome.steps <= total_steps:
            return Succeeded(outcome.message)
        return Failed(EndReason.ERROR, f"the trainer ended early with {steps} of {total_steps} steps", exit_code)
    if outcome and status is Status.FAILED:
        return Failed(outcome.code or EndReason.ERROR, outcome.message, exit_code, number)
    if asked is Asked.TIME_LIMIT:
        return Failed(EndReason.TIME_LIMIT, "the job ran longer than limits.max_seconds", exit_code, number)
    if asked in (Asked.DRAIN, Asked.PAUSE):
        return Drained()
    if stalled_for is not None:
        return Lost(f"its trainer took no step for {stalled_for:.0f} s", number, EndReason.STALLED)
    if status is Status.STOPPED:
        return Lost("its trainer was stopped from outside", number)
    if number == signal.SIGKILL and killed_for_memory:
        return Failed(EndReason.OOM_HOST, "the machine ran out of memory and killed the trainer", signal=number)
    if number == signal.SIGKILL:
        return Lost("its trainer was killed", number)
    if number is not None:
        return Failed(EndReason.ERROR, f"the trainer died of {_signal_name(number)}", signal=number)
    return Failed(EndReason.ERROR, f"the trainer ended with exit code {exit_code}; see the log", exit_code)


def _signal_name(number: int) -> str:
    """Real-time signals have no name."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def read_outcome(path: Path) -> Outcome | None:
    """What the trainer wrote at its end; None if it did not come to that. Raises ValueError for anything else."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return Outcome.from_json(content)

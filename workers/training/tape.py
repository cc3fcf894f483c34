"""The way of the steps to the spool: they wait here, and are fetched from the device and written together."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from workers.spool import RECORD, Records, Writer
from workers.training.loop import Step
from workers.training.machine import Meter
from workers.training.parallel import Crew
from workers.training.preparation import Training

FLUSH_SECONDS = 0.1

Values = NDArray[np.float64]


class NonFinite(Exception):
    """A loss that is NaN or infinite ended the training; it is the last one in the spool."""

    def __init__(self, step: Step, loss: float, norm: tuple[int, float] | None) -> None:
        """norm: the last gradient norm that was measured, and of which step it is."""
        measured = f" of step {norm[0]}" if norm and norm[0] != step.number else ""
        told = f" and gradient norm {norm[1]:g}{measured}" if norm else ""
        super().__init__(f"train_loss is {loss} at step {step.number}, with learning rate {step.learning_rate:g}{told}")


@dataclass
class Tape:
    """The steps that are not written yet.

    writer: of a spool with the series of the training. bell: a pipe to write to when there is something to read.
    steps: the last one that is written, or that came before. active_seconds: of training, up to its end.
    due: when to flush, on the clock `perf_counter`. norm: the last gradient norm that was written, and its step.
    waiting: the steps that are to be written.
    """

    training: Training
    writer: Writer
    bell: int
    steps: int = 0
    active_seconds: float = 0.0
    due: float = 0.0
    norm: tuple[int, float] | None = None
    waiting: list[Step] = field(default_factory=list)
    _began: float | None = None
    _doubts: int = 0

    def __post_init__(self) -> None:
        self._meter = Meter(self.training.device, self.training.crew.others)

    def flush(self) -> Step | None:
        """Writes all that waits and rings the bell. Returns the last step with a validation in what was written.

        Raises NonFinite when a loss is and the job does not go on then: nothing after it is written. Raises OSError.
        """
        steps, self.waiting = self.waiting, []
        if not steps:
            return None
        losses, norms = _fetched(steps, self.training.crew)
        steps = steps[: len(losses)]
        if not steps:
            return None
        seconds, times = self._clocked(steps)
        bad = np.flatnonzero(~np.isfinite(losses)) if self.training.spec.on_non_finite == "fail" else losses[:0]
        if len(bad):
            steps = steps[: int(bad[0]) + 1]
        last = len(steps) - 1
        measured = [each for each in norms.items() if each[0] <= steps[last].number]
        self.norm = measured[-1] if measured else self.norm
        self.writer.append(self._points(steps, losses, norms, seconds, times))
        self.steps, self.active_seconds = steps[last].number, float(times[last])
        self._ring()
        self.due = perf_counter() + FLUSH_SECONDS
        if len(bad):
            raise NonFinite(steps[last], losses[last], self.norm)
        return next((step for step in reversed(steps) if step.validation), None)

    def mark(self, mark: int, step: int) -> None:
        """Writes a mark of a step behind the points that are written: see `spool`. Raises OSError."""
        self.writer.append(np.array([(mark, step, 0.0, self.active_seconds)], RECORD))
        self._ring()

    def doubt(self, sentence: str) -> None:
        """Writes down what keeps the curves from coming out the same again. Raises OSError."""
        self.writer.doubt(sentence, self._doubts, self.steps, self.active_seconds)
        self._doubts += 1
        self._ring()

    def _ring(self) -> None:
        # A full pipe rings already, and a reader that is gone hears nothing.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.bell, b"\0")

    def _clocked(self, steps: list[Step]) -> tuple[Values, Values]:
        """How long each step took, and the active time at its end, in seconds. The device must be done with them."""
        seconds = np.array([step.seconds for step in steps])
        ends = np.array([step.ended for step in steps])
        first = ends[0] - seconds[0]
        if self.training.device.type == "cuda":
            # A GPU has only been told to do the step when `ended` is read; what is known is when it had done them all.
            seconds[:] = (perf_counter() - first) / len(steps)
            ends = first + np.cumsum(seconds)
        if self._began is None:
            self._began = first - self.active_seconds
        return seconds, ends - self._began

    def _points(
        self, steps: list[Step], losses: Values, norms: dict[int, float], seconds: Values, times: Values
    ) -> Records:
        """The records of the steps. The arrays begin with the same steps and may go on further."""
        count = len(steps)
        columns = {
            "train_loss": losses[:count],
            "learning_rate": np.array([step.learning_rate for step in steps]),
            "samples_per_second": np.array([step.samples for step in steps]) / seconds[:count],
        }
        index = {name: number for number, name in enumerate(self.training.series)}
        points = np.empty((count, len(columns)), RECORD)
        points["series"] = [index[name] for name in columns]
        points["step"] = [[step.number] for step in steps]
        points["time"] = times[:count, None]
        points["value"] = np.column_stack(list(columns.values()))
        first = steps[0].number
        measured = [
            (index["grad_norm"], number, norm, times[number - first])
            for number, norm in norms.items()
            if number - first < count
        ]
        validations = [
            (index[name], step.number, value, time)
            for step, time in zip(steps, times, strict=False)
            for name, value in (step.validation or {}).items()
        ]
        used = [(index[name], steps[-1].number, value, times[count - 1]) for name, value in self._meter.look().items()]
        return np.concatenate([points.ravel(), np.array(measured + validations + used, RECORD)])


def _fetched(steps: list[Step], crew: Crew) -> tuple[Values, dict[int, float]]:
    """(losses, gradient norms of the steps that have one); fewer losses than steps when one of the crew was lost."""
    measured = {step.number: step.grad_norm for step in steps if step.grad_norm is not None}
    losses = crew.totals(torch.stack([step.loss for step in steps]))
    values = torch.cat([losses, *(norm[None] for norm in measured.values())]).tolist()  # the one wait for the device
    return np.array(values[: len(losses)]), dict(zip(measured, values[len(losses) :], strict=True))

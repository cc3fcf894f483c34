"""What curves are drawn over: the step, and what follows from it by the plan, or the time. Nobody logs these."""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from service.curves.rollups import Floats, Integers
from service.errors import FieldProblem, InvalidInput
from service.plan import Epoch, Plan, epochs_at, samples_at

MOST = 2**62  # beyond which samples are counted as floating-point numbers


class Axis(Enum):
    STEP = "step"
    EPOCH = "epoch"
    SAMPLES = "samples"
    TIME = "time"
    GPU_SECONDS = "gpu_seconds"


@dataclass(frozen=True)
class Counting:
    """What the axes of a run follow from: how it counts samples, and how many GPUs it held.

    plan: None for a script that did not say how much it trains on; `batch_size` then is where that alone is known.
    """

    plan: Plan | Epoch | None
    batch_size: int | None = None
    gpus: float = 0.0

    @cached_property
    def available(self) -> list[Axis]:
        """The axes of the run."""
        unknown = set() if self.plan is not None else {Axis.EPOCH}
        if self.plan is None and self.batch_size is None:
            unknown.add(Axis.SAMPLES)
        return [axis for axis in Axis if axis not in unknown]

    def along(self, axis: Axis, steps: Integers, times: Floats) -> Integers | Floats:
        """The coordinates of points: shape (n,) in and out.

        Passes over the training split, samples seen, GPU seconds, or, as given, steps and seconds of active training.
        Raises InvalidInput when the run has no such axis.
        """
        if axis not in self.available:
            words = ", ".join(each.value for each in self.available)
            raise InvalidInput([FieldProblem("x", "no_plan", f"this run has no plan: its axes are {words}")])
        if axis is Axis.STEP:
            return steps
        if axis is Axis.TIME:
            return times
        if axis is Axis.GPU_SECONDS:
            return times * self.gpus
        if axis is Axis.EPOCH and self.plan is not None:
            return epochs_at(steps, self.plan)
        batch = self.batch_size if self.plan is None else self.plan.batch_size
        assert batch is not None, "an available axis"
        if len(steps) and int(np.abs(steps).max()) > MOST // batch:
            return steps.astype(np.float64) * batch
        return steps * batch if self.plan is None else samples_at(steps, self.plan)

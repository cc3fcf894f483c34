"""What curves are drawn over: the step, and what follows from it by the plan, or the time. Nobody logs these."""

from enum import Enum

from service.curves.rollups import Floats, Integers
from service.errors import FieldProblem, InvalidInput
from service.plan import Plan, epochs_at, samples_at


class Axis(Enum):
    STEP = "step"
    EPOCH = "epoch"
    SAMPLES = "samples"
    TIME = "time"


def available(plan: Plan | None) -> list[Axis]:
    """The axes of a run; one without a plan counts neither epochs nor samples."""
    return [axis for axis in Axis if plan is not None or axis in (Axis.STEP, Axis.TIME)]


def along(axis: Axis, steps: Integers, times: Floats, plan: Plan | None) -> Integers | Floats:
    """The coordinates of points: shape (n,) in and out.

    Passes over the training split, samples seen, or, as given, steps and seconds of active training.
    Raises InvalidInput when the run has no such axis.
    """
    if axis is Axis.STEP:
        return steps
    if axis is Axis.TIME:
        return times
    if plan is None:
        words = " and ".join(each.value for each in available(plan))
        raise InvalidInput([FieldProblem("x", "no_plan", f"this run has no plan: its axes are {words}")])
    return epochs_at(steps, plan) if axis is Axis.EPOCH else samples_at(steps, plan)

"""A few real steps of a job, to tell before it is queued what it will cost."""

import resource
import statistics
from dataclasses import dataclass
from time import perf_counter

from service.plan import Plan
from service.spec import JobSpec
from workers.training import loop, preparation
from workers.training.data import Columns

MOST_STEPS, MOST_SECONDS = 20, 5.0


@dataclass(frozen=True)
class Measured:
    """steps: how many were measured, after a first one that is slower. seconds_per_step: their median.

    validation_seconds: of one look at the validation split. peak_memory_mib: of the whole process, torch included.
    """

    steps: int
    seconds_per_step: float
    validation_seconds: float
    estimated_seconds: float
    peak_memory_mib: float
    parameters: int


def measure(spec: JobSpec, plan: Plan, data_path: str, classes: int | None, columns: Columns) -> Measured:
    """Trains on the CPU for a moment; see `preparation.prepare`. Raises what that and the training do."""
    training = preparation.prepare(spec, plan, data_path, classes, columns=columns)
    began, seconds = perf_counter(), []
    for step in loop.train(training):
        seconds.append(step.seconds)
        if len(seconds) > MOST_STEPS or perf_counter() - began > MOST_SECONDS:
            break
    looked = perf_counter()
    if len(training.validation):
        loop.validate(training)
    validation_seconds = perf_counter() - looked
    settled = seconds[1:] or seconds
    a_step = statistics.median(settled)
    return Measured(
        steps=len(settled),
        seconds_per_step=a_step,
        validation_seconds=validation_seconds,
        estimated_seconds=plan.total_steps * a_step + plan.validations * validation_seconds,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        parameters=sum(parameter.numel() for parameter in training.model.parameters()),
    )

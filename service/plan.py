"""The arithmetic of epoch, step and batch: a spec and a data set's size in, every count of the run out.

Pure: the plan shown before the run, the trainer and the axes of the curves all use these functions.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Self, TypeVar, overload

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, computed_field

from service.errors import FieldProblem
from service.spec import GptModel, Hyperparameters, JobSpec, MlpModel

MOST_STEPS = 1_000_000_000

Steps = TypeVar("Steps", int, NDArray[np.int64])


class Plan(BaseModel):
    """What a run will do, counted before it starts. `batch_size` is what a full step really uses, of all processes.

    micro_batches_per_step: parts that each process computes its share of a batch in.
    """

    model_config = ConfigDict(frozen=True)

    train_samples: int
    validation_samples: int
    batch_size: int
    steps_per_epoch: int
    last_batch_samples: int
    epochs: int | float
    total_steps: int
    total_samples: int
    micro_batches_per_step: int
    warmup_steps: int
    validations: int
    processes: int = 1
    estimated_seconds: float | None = None
    estimate_basis: str | None = None
    estimated_start_at: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def samples_per_process(self) -> int:
        """Of a full batch, the largest share."""
        return -(-self.batch_size // self.processes)


@lru_cache(maxsize=1024)
def stored(text: str) -> Plan:
    """A plan as its job keeps it. The same jobs are asked for again and again, and what was checked stays right."""
    return Plan.model_construct(**orjson.loads(text))


def split_sizes(rows: int, fraction: float) -> tuple[int, int]:
    """(train_samples, validation_samples): the validation split is rounded up, as scikit-learn does."""
    # As a decimal, because 0.07 * 100 is a little more than 7 in binary.
    validation = int((Decimal(rows) * Decimal(str(fraction))).to_integral_value(ROUND_CEILING))
    return rows - validation, validation


def sizes(spec: JobSpec, rows: int, validation_rows: int | None) -> tuple[int, int]:
    """(train_samples, validation_samples) of a spec, its defaults filled in.

    rows: of the data set, or the bytes of a text. validation_rows: the same of the validation split that the data set
    brings, or None: then a part of the rows is held back.
    """
    if isinstance(spec.model, GptModel):
        rows = windows(rows, spec.model.context)
        validation_rows = None if validation_rows is None else windows(validation_rows, spec.model.context)
    if validation_rows is not None:
        return rows, validation_rows
    return split_sizes(rows, spec.validation.fraction)


def windows(size: int, context: int) -> int:
    """How many times `context` bytes, each with its next one, a text of so many bytes has, without overlap."""
    return max(0, (size - 1) // context)


def problems(spec: JobSpec, rows: int, validation_rows: int | None = None) -> list[FieldProblem]:
    """What makes the spec impossible for a data set of so many rows: see `sizes`."""
    train, validation = sizes(spec, rows, validation_rows)
    chosen = spec.hyperparameters
    if train < 1 and isinstance(spec.model, GptModel):
        return [
            FieldProblem("model.context", "nothing_to_train", f"a text of {rows} bytes has no such sample to spare")
        ]
    if train < 1:
        return [FieldProblem("validation.fraction", "nothing_to_train", "no sample is left for training")]
    found = []
    if spec.early_stopping is not None and validation < 1:
        message = "it looks at the validations, and there are none without a sample that is held back"
        found.append(FieldProblem("early_stopping", "nothing_to_validate", message))
    if chosen.drop_last and chosen.batch_size != "full" and chosen.batch_size > train:
        message = f"with drop_last a batch must not be larger than the training split of {train} samples"
        return [*found, FieldProblem("hyperparameters.batch_size", "no_full_batch", message)]
    if steps_per_epoch(train, chosen) * (chosen.epochs or 0) > MOST_STEPS:
        message = f"the run has more than {MOST_STEPS:,} steps"
        found.append(FieldProblem("hyperparameters.epochs", "too_many_steps", message))
    batch, processes = full_batch(train, chosen), spec.resources.processes
    if batch < processes:
        message = f"a step has {batch} samples, which are too few for {processes} processes"
        found.append(FieldProblem("resources.processes", "more_than_samples", message))
    elif isinstance(spec.model, MlpModel) and spec.model.normalization == "batch" and _a_lone_sample(spec, train):
        message = "over a lone sample there is nothing to normalise: drop_last, or another batch_size, avoids one"
        found.append(FieldProblem("model.normalization", "lone_sample", message))
    return found


def _a_lone_sample(spec: JobSpec, train_samples: int) -> bool:
    """Whether any micro-batch of the run has one sample, or a process none of a batch at all."""
    chosen, processes = spec.hyperparameters, spec.resources.processes
    batch = full_batch(train_samples, chosen)
    batches = {batch} if chosen.drop_last else {batch, train_samples % batch or batch}
    shares = {share for size in batches for share in (size // processes, -(-size // processes))}
    return any(share // max(1, micro_batches(share, chosen.gradient_accumulation)) < 2 for share in shares)


def micro_batches(samples: int, parts: int) -> int:
    """How many micro-batches a batch is computed in: as many as asked for, as even as can be, none of them empty."""
    return min(samples, parts)


def full_batch(train_samples: int, chosen: Hyperparameters) -> int:
    """Samples of a step that is not the smaller last one of an epoch."""
    return train_samples if chosen.batch_size == "full" else min(chosen.batch_size, train_samples)


def steps_per_epoch(train_samples: int, chosen: Hyperparameters) -> int:
    batch = full_batch(train_samples, chosen)
    return train_samples // batch if chosen.drop_last else -(-train_samples // batch)


def make(spec: JobSpec, rows: int, validation_rows: int | None = None) -> Plan:
    """Counts the run of a spec, its defaults filled in, on a data set of so many rows: see `sizes`.

    With early stopping the run may have fewer steps.
    """
    chosen = spec.hyperparameters
    train, validation = sizes(spec, rows, validation_rows)
    batch = full_batch(train, chosen)
    per_epoch = steps_per_epoch(train, chosen)
    total = chosen.max_steps if chosen.max_steps is not None else per_epoch * (chosen.epochs or 0)
    epochs: int | float = total / per_epoch
    plan = Plan(
        train_samples=train,
        validation_samples=validation,
        batch_size=batch,
        steps_per_epoch=per_epoch,
        last_batch_samples=batch if chosen.drop_last else train - (per_epoch - 1) * batch,
        epochs=int(epochs) if epochs == int(epochs) else epochs,
        total_steps=total,
        total_samples=0,
        micro_batches_per_step=micro_batches(-(-batch // spec.resources.processes), chosen.gradient_accumulation),
        processes=spec.resources.processes,
        warmup_steps=min(chosen.warmup_steps, total),
        validations=0,
    )
    every = validation_interval(spec, plan)
    return plan.model_copy(
        update={
            "total_samples": samples_at(total, plan),
            "validations": -(-total // every) if validation else 0,
        }
    )


def validation_interval(spec: JobSpec, plan: Plan) -> int:
    """Steps between validations. There is one more after the last step when the interval does not end there."""
    return spec.validation.every_steps or plan.steps_per_epoch


@dataclass(frozen=True)
class Epoch:
    """What is known of the epochs of a script's run, which has no plan."""

    batch_size: int
    steps_per_epoch: int
    last_batch_samples: int

    @classmethod
    def of(cls, train_samples: int, batch_size: int) -> Self:
        """The last batch of an epoch is smaller where the samples do not fill it."""
        steps = -(-train_samples // batch_size)
        return cls(batch_size, steps, train_samples - (steps - 1) * batch_size)


def samples_at(steps: Steps, plan: Plan | Epoch) -> Steps:
    """Samples seen after a step, or after each of an array of them, of any shape."""
    epochs, within = divmod(steps, plan.steps_per_epoch)
    per_epoch = (plan.steps_per_epoch - 1) * plan.batch_size + plan.last_batch_samples
    samples: Steps = epochs * per_epoch + within * plan.batch_size
    return samples


@overload
def epochs_at(steps: int, plan: Plan | Epoch) -> float: ...
@overload
def epochs_at(steps: NDArray[np.int64], plan: Plan | Epoch) -> NDArray[np.float64]: ...
def epochs_at(steps: int | NDArray[np.int64], plan: Plan | Epoch) -> float | NDArray[np.float64]:
    """Passes over the training split after a step, or after each of an array of them, of any shape."""
    return steps / plan.steps_per_epoch

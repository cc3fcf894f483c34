"""The training loop: a spec in, one loss per step out. It knows no queue and no database."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.optimizer import ParamsT

from service.plan import Plan, validation_interval
from service.spec import Hyperparameters, JobSpec
from workers.training import data, models, schedules, tasks
from workers.training.data import Samples

VALIDATION_BATCH = 4096


@dataclass(frozen=True)
class Training:
    """Everything that one training works on, ready for its first step."""

    spec: JobSpec
    plan: Plan
    task: tasks.Task
    model: nn.Module
    optimizer: Optimizer
    train: Samples
    validation: Samples

    @property
    def series(self) -> list[str]:
        """The names of all curves that this training gives."""
        names = ["train_loss", "learning_rate", "samples_per_second"]
        if self.spec.hyperparameters.max_grad_norm is not None:
            names.append("grad_norm")
        if len(self.validation):
            names += ["val_loss", *self.task.METRICS]
        return names


class Step(NamedTuple):
    """What one step gave. Steps count from 1.

    loss, grad_norm: shape (), on the device: to read one is to wait for it.
    seconds: from the choice of the batch to the update, validation left out. ended: on the clock `perf_counter`.
    """

    number: int
    samples: int
    loss: Tensor
    learning_rate: float
    grad_norm: Tensor | None
    seconds: float
    ended: float
    validation: dict[str, float] | None


def prepare(spec: JobSpec, plan: Plan, directory: Path | str, classes: int | None, device: str = "cpu") -> Training:
    """Reads the data, and builds the model and its optimizer.

    Threads, seeds and the choice of algorithms belong to the process: one training at a time.
    classes: how many there are, for classification. Raises InputChanged when the data is not the plan's.
    """
    chosen = spec.hyperparameters
    torch.set_num_threads(spec.resources.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Otherwise every new tensor is first filled with NaN, in case somebody reads it before writing.
    torch.utils.deterministic.fill_uninitialized_memory = False
    rows = data.load(directory, plan, chosen.seed, stratified=spec.task == "classification")
    task, targets, validation_targets = tasks.make(spec, rows, classes)
    torch.manual_seed(chosen.seed)
    model = models.build(spec.model, rows.inputs.shape[1], task.outputs).to(device)
    return Training(
        spec,
        plan,
        task,
        model,
        optimizer(chosen, model.parameters()),
        Samples(torch.from_numpy(rows.inputs).to(device), targets.to(device)),
        Samples(torch.from_numpy(rows.validation_inputs).to(device), validation_targets.to(device)),
    )


def train(training: Training) -> Iterator[Step]:
    """Trains, and yields after every step. Whoever consumes the steps decides when to store and when to stop."""
    spec, plan, task, model, optimizer, (inputs, targets), _ = training
    chosen = spec.hyperparameters

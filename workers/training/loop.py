"""The training loop: a spec in, one loss per step out. It knows no queue and no database."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

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
    preprocessing: dict[str, Any]

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


def prepare(
    spec: JobSpec,
    plan: Plan,
    directory: Path | str,
    classes: int | None,
    device: str = "cpu",
    columns: data.Columns = None,
) -> Training:
    """Reads the data, and builds the model and its optimizer.

    classes: how many there are, for classification. columns: as the data set describes them. Raises InputChanged when
    the data is not the plan's.
    """
    seed, stratified = spec.hyperparameters.seed, spec.task == "classification"
    rows = data.load(directory, plan, seed, stratified=stratified, columns=columns, missing=spec.data.missing)
    return assemble(spec, plan, rows, classes, device)


def assemble(spec: JobSpec, plan: Plan, rows: data.Rows, classes: int | None, device: str) -> Training:
    """Puts the data on the device beside a new model. Threads, seed and algorithms are set for the whole process."""
    chosen = spec.hyperparameters
    torch.set_num_threads(spec.resources.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Otherwise every new tensor is first filled with NaN, in case somebody reads it before writing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(chosen.seed)
    task, targets, validation_targets = tasks.make(spec, rows, classes)
    model = models.build(spec.model, rows.inputs.shape[1], task.outputs).to(device)
    return Training(
        spec,
        plan,
        task,
        model,
        optimizer(chosen, model.parameters()),
        Samples(torch.from_numpy(rows.inputs).to(device), targets.to(device)),
        Samples(torch.from_numpy(rows.validation_inputs).to(device), validation_targets.to(device)),
        rows.preprocessing,
    )


def summary(training: Training) -> list[str]:
    """What is trained, on what and how, in sentences for the log."""
    spec, plan, inputs = training.spec, training.plan, training.train.inputs
    parameters = sum(parameter.numel() for parameter in training.model.parameters())
    return [
        f"{spec.task} of {spec.dataset}: {plan.train_samples} training and {plan.validation_samples} validation "
        f"samples of {inputs.shape[1]} columns",
        f"{spec.model.type} with {parameters} parameters, {spec.hyperparameters.optimizer}, "
        f"{plan.total_steps} steps of {plan.batch_size} samples",
        f"device {inputs.device}, threads {torch.get_num_threads()}, torch {torch.__version__}",
    ]


def train(training: Training, first_step: int = 1) -> Iterator[Step]:
    """Trains, and yields after every step. Whoever consumes the steps decides when to store and when to stop.

    first_step: the one that comes next for this model and this optimizer, in the middle of an epoch or not.
    """
    plan, task, model, optimizer = training.plan, training.task, training.model, training.optimizer
    inputs, targets = training.train.inputs, training.train.targets
    chosen = training.spec.hyperparameters
    validated_every = validation_interval(training.spec, plan)
    parameters = list(model.parameters())
    model.train()
    for number in range(first_step, plan.total_steps + 1):
        began = perf_counter()
        epoch, position = divmod(number - 1, plan.steps_per_epoch)
        if position == 0 or number == first_step:
            order = epoch_order(training, epoch)
        batch = order[position * plan.batch_size : (position + 1) * plan.batch_size]
        learning_rate = schedules.learning_rate(number, plan.total_steps, chosen)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate

        loss = task.loss(model(inputs.index_select(0, batch)), targets.index_select(0, batch))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        grad_norm = None
        if chosen.max_grad_norm is not None:
            grad_norm = clip_grad_norm_(parameters, chosen.max_grad_norm)
        optimizer.step()
        ended = perf_counter()

        validation = None
        if (number % validated_every == 0 or number == plan.total_steps) and len(training.validation):
            validation = validate(training)
        yield Step(number, len(batch), loss.detach(), learning_rate, grad_norm, ended - began, ended, validation)


def epoch_order(training: Training, epoch: int) -> Tensor:
    """The row numbers of the training split in the order of an epoch, counted from 0."""
    samples, chosen = len(training.train), training.spec.hyperparameters
    order = data.order(chosen.seed, epoch, samples) if chosen.shuffle else torch.arange(samples)
    return order.to(training.train.inputs.device)


@torch.no_grad()
def validate(training: Training) -> dict[str, float]:
    """The loss and the task's metrics over the validation split. It draws no random number, so training is the same
    whether anybody looks or not.
    """
    model, task, samples = training.model, training.task, training.validation
    model.eval()
    sums = []
    for inputs, targets in zip(
        torch.split(samples.inputs, VALIDATION_BATCH), torch.split(samples.targets, VALIDATION_BATCH), strict=True
    ):
        outputs = model(inputs)
        loss = task.loss(outputs, targets).double() * len(inputs)
        sums.append(torch.cat([loss[None], task.tally(outputs, targets).double()]))
    model.train()
    loss_sum, *tally = torch.stack(sums).sum(dim=0).tolist()
    return {"val_loss": loss_sum / len(samples), **task.scores(tally, len(samples))}


def optimizer(chosen: Hyperparameters, parameters: ParamsT) -> Optimizer:
    """PyTorch's own, as a script would write it, so that its updates are those of a script to the last bit."""
    rate, decay = chosen.learning_rate, chosen.weight_decay
    match chosen.optimizer:
        case "sgd":
            return SGD(parameters, lr=rate, momentum=chosen.momentum, weight_decay=decay)
        case "adam":
            return Adam(parameters, lr=rate, betas=(chosen.betas[0], chosen.betas[1]), weight_decay=decay)
        case "adamw":
            return AdamW(parameters, lr=rate, betas=(chosen.betas[0], chosen.betas[1]), weight_decay=decay)
        case "rmsprop":
            return RMSprop(parameters, lr=rate, momentum=chosen.momentum, weight_decay=decay)
        case "adagrad":
            return Adagrad(parameters, lr=rate, weight_decay=decay)

"""The training loop: a spec in, one loss per step out. It knows no queue and no database."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.optimizer import ParamsT

from service import plan as plans
from service.plan import Plan, validation_interval
from service.spec import GptModel, Hyperparameters, JobSpec
from service.tasks import METRICS, TASKS
from workers.training import data, machine, models, schedules, shared, tasks
from workers.training.data import Samples
from workers.training.parallel import Alone, Crew
from workers.training.stopping import Patience
from workers.training.tasks import Given

VALIDATION_BATCH = 4096
VALIDATION_VALUES = 1 << 20  # of inputs or outputs, at a time
GRAD_NORM_EVERY = 50  # steps, where nothing else needs the norm: one costs as much as half of a small step

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Training:
    """Everything that one training works on, ready for its first step.

    preprocessing: what it found in the training split. micro_batches: parts that a process computes its share of a full
    batch in. crew: the processes that compute it together.
    """

    spec: JobSpec
    plan: Plan
    task: tasks.Task
    model: nn.Module
    optimizer: Optimizer
    scaler: GradScaler
    train: Samples
    validation: Samples
    preprocessing: dict[str, Any]
    patience: Patience | None
    micro_batches: int
    crew: Crew = field(default_factory=Alone)

    @property
    def device(self) -> torch.device:
        return self.train.inputs.device

    @cached_property
    def plain(self) -> bool:
        """Whether a step is nothing but the gradient of one batch, computed at once, by one process, in float32."""
        alone = self.crew.count == 1 and self.micro_batches == 1
        return alone and self.spec.hyperparameters.precision == "float32"

    @property
    def series(self) -> list[str]:
        """The names of all curves that this training gives."""
        names = ["train_loss", "learning_rate", "samples_per_second", "grad_norm"]
        if len(self.validation):
            names += METRICS[self.spec.task]
        return [*names, *machine.series(self.device)]


class Step(NamedTuple):
    """What one step gave. Steps count from 1.

    loss, grad_norm: shape (), on the device: to read one is to wait for it. grad_norm: before it was scaled down to
    max_grad_norm; None where it was not measured.
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
    micro_batches: int | None = None,
    columns: data.Columns = None,
    data_sha256: str | None = None,
) -> Training:
    """Reads the data, and builds the model and its optimizer.

    classes: how many there are, for classification. micro_batches: parts of a full batch, when those of the plan are
    too large for the device. columns: of a table, as the data set describes them. data_sha256: as it was just found,
    for one who shares what is large with other trainers. Raises InputChanged when the data is not the plan's, and
    CannotCompute.
    """
    seed, stratified = spec.hyperparameters.seed, TASKS[spec.task].targets == "classes"
    context = spec.model.context if isinstance(spec.model, GptModel) else None
    look = data.Look(stratified, context, columns, spec.data.missing)
    if data_sha256 is None:
        rows = data.load(directory, plan, seed, look)
    else:
        rows = shared.load(directory, data_sha256, plan, seed, look)
    return assemble(spec, plan, rows, classes, device, micro_batches)


class CannotCompute(ValueError):
    """The device has no arithmetic of the precision that was asked for."""


def assemble(
    spec: JobSpec, plan: Plan, rows: data.Rows, classes: int | None, device: str, micro_batches: int | None = None
) -> Training:
    """Puts the data on the device beside a new model. Threads, seed and algorithms are set for the whole process."""
    chosen = spec.hyperparameters
    torch.set_num_threads(spec.resources.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Otherwise every new tensor is first filled with NaN, in case somebody reads it before writing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(chosen.seed)
    kind = torch.device(device).type
    if kind == "cuda" and chosen.precision == "bfloat16" and not torch.cuda.is_bf16_supported(False):
        raise CannotCompute(f"{torch.cuda.get_device_name(device)} does not compute in bfloat16")
    given = Given(rows.targets, rows.validation_targets, classes)
    task, targets, validation_targets = tasks.named(spec.task).begin(chosen, given)
    train = _samples(spec, rows.inputs, targets, device)
    validation = _samples(spec, rows.validation_inputs, validation_targets, device)
    mean, deviation = map(torch.from_numpy, rows.channels) if rows.channels is not None else (None, None)
    model = models.whole(spec.model, train.inputs.shape[1:], task.outputs, mean, deviation).to(device)
    return Training(
        spec,
        plan,
        task,
        model,
        optimizer(chosen, model.parameters()),
        GradScaler(kind, enabled=chosen.precision == "float16"),
        train,
        validation,
        rows.preprocessing,
        Patience(spec.early_stopping) if spec.early_stopping is not None else None,
        micro_batches or plan.micro_batches_per_step,
    )


def _samples(spec: JobSpec, inputs: NDArray[Any], targets: Tensor, device: str) -> Samples:
    """On the device. The windows of a text are looked at, not copied: inputs and targets lie in the same bytes."""
    placed = torch.from_numpy(inputs).to(device)
    if isinstance(spec.model, GptModel):
        context = spec.model.context
        windows = placed.unfold(0, context + 1, context) if len(placed) > context else placed.new_empty(0, context + 1)
        return Samples(windows[:, :-1], windows[:, 1:])
    return Samples(placed, targets.to(device))


def summary(training: Training) -> list[str]:
    """What is trained, on what and how, in sentences for the log."""
    spec, plan, inputs = training.spec, training.plan, training.train.inputs
    parameters = sum(parameter.numel() for parameter in training.model.parameters())
    size = " x ".join(map(str, inputs.shape[1:]))
    parts = f" in {training.micro_batches} parts" if training.micro_batches > 1 else ""
    if plan.processes > 1:
        parts = f" in {plan.processes} processes{f', each share{parts}' if parts else ''}"
    return [
        f"{spec.task} of {spec.dataset}: {plan.train_samples} training and {plan.validation_samples} validation "
        f"samples of {size} {NOUNS[training.preprocessing['kind']]}",
        f"{spec.model.type} with {parameters} parameters, {spec.hyperparameters.optimizer}, "
        f"{plan.total_steps} steps of {plan.batch_size} samples{parts}",
        f"device {inputs.device}, threads {torch.get_num_threads()}, torch {torch.__version__}",
    ]


NOUNS = {"table": "columns", "images": "values", "text": "bytes"}


def train(training: Training, first_step: int = 1) -> Iterator[Step]:
    """Trains, and yields after every step. Whoever consumes the steps decides when to store and when to stop.

    It ends with the last step of the plan, or when the patience for an improvement is used up.
    first_step: the one that comes next for this model and this optimizer, in the middle of an epoch or not.
    """
    plan, model, optimizer, scaler = training.plan, training.model, training.optimizer, training.scaler
    patience, chosen = training.patience, training.spec.hyperparameters
    validated_every, scaled = validation_interval(training.spec, plan), scaler.is_enabled()
    parameters, crew = list(model.parameters()), training.crew
    model.train()
    number = first_step - 1
    while crew.goes_on(number < plan.total_steps and not (patience is not None and patience.over)):
        number += 1
        began = perf_counter()
        epoch, position = divmod(number - 1, plan.steps_per_epoch)
        if position == 0 or number == first_step:
            order = epoch_order(training, epoch)
            coming = data.batches(training.train, order, plan.batch_size, position)
        learning_rate = schedules.learning_rate(number, plan.total_steps, chosen)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate

        for parameter in parameters:  # what `zero_grad` does, without its profiling: 4 % of a small step
            parameter.grad = None
        if training.plain:
            samples, loss = _backward(training, *next(coming))
        else:
            batch = order[position * plan.batch_size : (position + 1) * plan.batch_size]
            samples, loss = len(batch), backward(training, batch)
        if scaled:
            scaler.unscale_(optimizer)
        grad_norm = None
        if chosen.max_grad_norm is not None:
            grad_norm = clip_grad_norm_(parameters, chosen.max_grad_norm)
        elif number % GRAD_NORM_EVERY == 1:
            grad_norm = get_total_norm([each.grad for each in parameters if each.grad is not None])
        if scaled:
            scaler.step(optimizer)  # skips the update when float16 has overflowed
            scaler.update()
        else:
            optimizer.step()
        ended = perf_counter()

        validation = None
        looked_at = crew.leads and len(training.validation) > 0
        if looked_at and (number % validated_every == 0 or number == plan.total_steps):
            validation = validate(training)
            if patience is not None:
                patience.look(number, validation)
        yield Step(number, samples, loss, learning_rate, grad_norm, ended - began, ended, validation)


def _backward(training: Training, inputs: Tensor, targets: Tensor) -> tuple[int, Tensor]:
    """How many samples, and their loss. It comes to what `backward` does for a plain training, which costs a small step
    a twentieth of its time.
    """
    loss = training.task.loss(training.model(inputs), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    return len(inputs), loss.detach()


def backward(training: Training, batch: Tensor) -> Tensor:
    """Adds the gradient of the mean loss over a batch to the parameters, part by part; that loss, shape ().

    batch: row numbers of the training split, of which this process computes its share. With float16 the gradient is
    scaled, as the scaler expects it.
    """
    task, model, scaler, samples, crew = training.task, training.model, training.scaler, training.train, training.crew
    share, outputs = crew.share(batch), crew.outputs(model)
    # Whoever has no sample of a tiny batch takes part in the exchange with one that counts nothing.
    rows = share if len(share) else batch[:1]
    count = plans.micro_batches(len(rows), training.micro_batches)
    parts = (rows,) if count == 1 else rows.tensor_split(count)
    losses = []
    for number, part in enumerate(parts, start=1):
        weight = len(part) / len(batch) if len(share) else 0.0
        with crew.exchange(number == count):
            with _arithmetic(training):
                loss = task.loss(outputs(samples.inputs.index_select(0, part)), samples.targets.index_select(0, part))
            # Each part counts as much as it has samples, so that together they are the mean over the batch.
            loss = loss if weight == 1 else loss * weight
            # The gradients of several processes are averaged, and are to be added.
            scaler.scale(loss if crew.count == 1 else loss * crew.count).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    return crew.total(losses[0] if len(losses) == 1 else torch.stack(losses).sum())


def _arithmetic(training: Training) -> AbstractContextManager[Any]:
    """In which matrix products are computed in the precision of the spec."""
    precision = PRECISIONS[training.spec.hyperparameters.precision]
    if precision is torch.float32:
        return nullcontext()
    return torch.autocast(training.device.type, precision)


def epoch_order(training: Training, epoch: int) -> Tensor:
    """The row numbers of the training split in the order of an epoch, counted from 0."""
    samples, chosen = len(training.train), training.spec.hyperparameters
    order = data.order(chosen.seed, epoch, samples) if chosen.shuffle else torch.arange(samples)
    return order.to(training.device)


@torch.no_grad()
def validate(training: Training) -> dict[str, float]:
    """The loss and the task's metrics over the validation split. It draws no random number, so training is the same
    whether anybody looks or not.
    """
    model, task, samples = training.model, training.task, training.validation
    model.eval()
    sums = []
    size = _validation_batch(training)
    for inputs, targets in zip(torch.split(samples.inputs, size), torch.split(samples.targets, size), strict=True):
        with _arithmetic(training):
            outputs = model(inputs)
            loss = task.loss(outputs, targets).double() * len(inputs)
        sums.append(torch.cat([loss[None], task.tally(outputs, targets).double()]))
    model.train()
    loss_sum, *tally = torch.stack(sums).sum(dim=0).tolist()
    found = {"val_loss": loss_sum / len(samples), **task.scores(tally)}
    if found.keys() != set(METRICS[training.spec.task]):
        raise ValueError(f"{training.spec.task} declares {METRICS[training.spec.task]} and gives {tuple(found)}")
    return found


def _validation_batch(training: Training) -> int:
    """Samples at a time: what a sample holds, or what comes of it, must not fill the memory."""
    values = training.validation.inputs[0].numel()
    if isinstance(training.spec.model, GptModel):
        values *= training.task.outputs
    return max(1, min(VALIDATION_BATCH, VALIDATION_VALUES // values))


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

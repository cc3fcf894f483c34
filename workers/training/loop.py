"""The training loop: a spec in, one loss per step out. It knows no queue and no database."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from service import plan as plans
from service.plan import validation_interval
from service.spec import GptModel
from service.tasks import METRICS
from workers.training import data, schedules
from workers.training.preparation import Training

VALIDATION_BATCH = 4096
VALIDATION_VALUES = 1 << 20  # of inputs or outputs, at a time
GRAD_NORM_EVERY = 50  # steps, where nothing else needs the norm: one costs as much as half of a small step

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Step(NamedTuple):
    """What one step gave. Steps count from 1.

    loss, grad_norm: shape (), on the device: to read one is to wait for it. loss: this process's share, of which the
    crew knows the total. grad_norm: before it was scaled down to max_grad_norm; None where it was not measured.
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
    """Adds the gradient of the mean loss over a batch to the parameters, part by part; this process's share of that
    loss, shape ().

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
            # Each part counts as much as it has samples, so that together they are the mean over the batch. The
            # gradients of several processes are averaged, and are to be added.
            counts = weight * crew.count
            scaler.scale(loss if counts == 1 else loss * counts).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach() if weight == 1 else loss.detach() * weight)
    total = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
    crew.tell(total)
    return total


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

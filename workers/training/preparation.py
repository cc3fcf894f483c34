"""What a training is made of: a spec and a stored data set in, everything that its steps work on out."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.optimizer import ParamsT

from service.plan import Plan
from service.spec import GptModel, Hyperparameters, JobSpec
from service.tasks import METRICS, TASKS
from workers.training import data, machine, models, shared, tasks
from workers.training.data import Samples
from workers.training.parallel import Alone, Crew
from workers.training.stopping import Patience
from workers.training.tasks import Given

NOUNS = {"table": "columns", "images": "values", "text": "bytes"}


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
    if kind == "cuda":
        # Otherwise PyTorch would look at the first GPU wherever it is not told of one.
        torch.cuda.set_device(device)
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

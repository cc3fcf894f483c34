"""What a person asks for: the job spec. Declared once: it validates requests, is stored, and steers the trainer."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from service import extensions
from service.errors import FieldProblem, InvalidInput
from service.extensions import FurtherModel
from service.ids import ID_PATTERN

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
DATASET_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(@[1-9][0-9]{0,8})?$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Text = Annotated[str, StringConstraints(max_length=4096)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=1, le=16_384)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
TagKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
ValidationMetric = Literal[
    "val_loss", "val_accuracy", "val_recall", "val_precision", "val_f1", "val_mae", "val_r2", "val_perplexity"
]
MOST_TAGS = 256


class Part(BaseModel):
    """Strict: a number is not taken from a string, nor true for 1, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class LinearModel(Part):
    """One linear layer: softmax regression for classes, linear regression for numbers."""

    type: Literal["linear"] = "linear"


class MlpModel(Part):
    """A multilayer perceptron: fully connected layers with one activation between them."""

    type: Literal["mlp"] = "mlp"
    hidden_sizes: list[Width] = Field(
        default=[128, 64], min_length=1, max_length=32, description="units of each hidden layer"
    )
    activation: Literal["relu", "tanh", "gelu", "silu", "sigmoid"] = Field(
        default="relu", description="applied after each hidden layer"
    )
    normalization: Literal["none", "batch", "layer"] = Field(
        default="none", description="of each hidden layer's sums, over the samples of a batch or within each sample"
    )
    dropout: Probability = Field(default=0.0, description="share of hidden units zeroed at each training step")


class CnnModel(Part):
    """A small residual network for images: three stages of blocks, each stage half as large and twice as wide."""

    type: Literal["cnn"] = "cnn"
    width: Annotated[int, Field(ge=1, le=1024)] = Field(default=16, description="channels of the first stage")
    depth: Annotated[int, Field(ge=1, le=64)] = Field(default=1, description="residual blocks of each stage")


class GptModel(Part):
    """A transformer that reads bytes and foretells the next one."""

    type: Literal["gpt"] = "gpt"
    layers: Annotated[int, Field(ge=1, le=128)] = Field(default=4, description="transformer blocks")
    heads: Annotated[int, Field(ge=1, le=128)] = Field(default=4, description="attention heads; they divide the width")
    width: Annotated[int, Field(ge=1, le=8192)] = Field(default=128, description="units of each byte's state")
    context: Annotated[int, Field(ge=1, le=65_536)] = Field(
        default=128, description="bytes of a sample: what the model sees at a time"
    )
    dropout: Probability = Field(default=0.0, description="share of units zeroed at each training step")


FURTHER = extensions.installed()

if TYPE_CHECKING:
    AnyModel = LinearModel | MlpModel | CnnModel | GptModel | FurtherModel
else:
    AnyModel = Union[LinearModel, MlpModel, CnnModel, GptModel, *(each.model for each in FURTHER.values())]

Model = Annotated[AnyModel, Field(discriminator="type")]


def _usual_model(task: Any) -> AnyModel:
    return GptModel() if task == "language_modeling" else MlpModel()


class Hyperparameters(Part):
    """What steers gradient descent. The same spec and seed give the same loss curve."""

    learning_rate: float = Field(default=1e-3, gt=0, le=100, description="update size per step, before the schedule")
    batch_size: Annotated[int, Field(ge=1, le=1_048_576)] | Literal["full"] = Field(
        default=64, description='samples per step, or "full": the whole training split'
    )
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="passes over the training split; 10 when max_steps is not given either"
    )
    max_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="steps in all, instead of epochs"
    )
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"] = Field(
        default="adam", description="rule that turns gradients into updates"
    )
    momentum: Probability = Field(default=0.9, description="of sgd and rmsprop; 0 is plain gradient descent")
    betas: list[Probability] = Field(
        default=[0.9, 0.999], min_length=2, max_length=2, description="averaging of adam and adamw"
    )
    weight_decay: float = Field(default=0.0, ge=0, le=100, description="pull of the weights towards zero")
    loss: Literal["cross_entropy", "mse", "l1", "huber", "bce"] | None = Field(
        default=None, description="what is minimised; cross_entropy for classes and mse for numbers when not given"
    )
    label_smoothing: Probability = Field(default=0.0, description="of cross_entropy: share spread over all classes")
    lr_schedule: Literal["constant", "linear", "cosine", "step", "exponential", "one_cycle"] = Field(
        default="constant", description="how the learning rate changes over the run, after the warm-up"
    )
    warmup_steps: int = Field(
        default=0, ge=0, le=1_000_000_000, description="steps over which the learning rate rises from 0"
    )
    gradient_accumulation: Annotated[int, Field(ge=1, le=1_048_576)] = Field(
        default=1, description="parts that a batch is computed in, one after the other, to need less memory"
    )
    max_grad_norm: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="gradients with a larger norm are scaled down to it"
    )
    drop_last: bool = Field(default=False, description="leave out the last batch of an epoch when it is smaller")
    shuffle: bool = Field(default=True, description="a new order of the samples in each epoch, set by the seed")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of matrix products; the weights stay float32, and float16 scales the loss"
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="of the split, the weights, the order and dropout")


class Data(Part):
    """How a table becomes what the model sees. Numbers are standardised with the training split, categories one-hot."""

    missing: Literal["refuse", "mean"] = Field(
        default="refuse",
        description="empty cells: refuse the job, or take the training split's mean of a number and, for a category, "
        "none of its values",
    )


class Validation(Part):
    """What is held back from training, and when it is looked at."""

    fraction: Annotated[float, Field(ge=0, le=0.9)] = Field(
        default=0.2,
        description="share of the samples, stratified by class for classification, and of a text its end; "
        "not read where the data set brings its own validation split",
    )
    every_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="steps between validations; after each epoch when not given"
    )


class EarlyStopping(Part):
    """Ends a training that has stopped to improve. It counts as succeeded."""

    metric: ValidationMetric = Field(default="val_loss", description="what has to improve")
    patience: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=5, description="validations in a row without an improvement, after which training ends"
    )
    min_delta: float = Field(default=0.0, ge=0, description="a smaller change is no improvement")


class Checkpoints(Part):
    """What a job keeps of its training, to go on from after a pause, a drain or a loss."""

    every_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="steps between checkpoints; one each half minute when not given"
    )
    keep: int = Field(default=2, ge=1, le=100, description="how many of the newest are kept, and the best beside them")


class Resources(Part):
    """What a job holds while it runs."""

    gpus: Annotated[int, Field(ge=0, le=64)] | Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0, description="GPUs given to the job alone, or a part of one, such as 0.5, shared with others"
    )
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads of each of its processes")
    processes: int = Field(
        default=1, ge=1, le=64, description="that train together, each with its share of every batch; one for each GPU"
    )
    memory_mib: Annotated[int, Field(ge=512, le=1 << 24)] | None = Field(
        default=None, description="MiB that each of its processes may allocate, PyTorch's own 300 among them"
    )


class Limits(Part):
    """When the service gives up on a job."""

    max_seconds: Annotated[float, Field(gt=0, le=31_536_000)] | None = Field(
        default=None, description="running time after which the job fails with time_limit"
    )
    max_attempts: int = Field(default=3, ge=1, le=100, description="executions in all when workers are lost")


class Gate(Part):
    """A look at the loss while the job trains, and what to do when it goes wrong."""

    after_steps: int = Field(
        default=100, ge=1, le=1_000_000_000, description="when it looks first; again at twice that, and so on"
    )
    on: Literal["diverging", "too_high"] = Field(
        default="diverging", description="diverging, or already a learning rate that is too high"
    )
    do: Literal["warn", "cancel"] = Field(default="warn", description="an event with the evidence, or also the end")


class JobSpec(Part):
    """A training job. Only `task` and `dataset` are required."""

    name: Label | None = Field(
        default=None, description="a label for people; made from data set and model when not given"
    )
    project: Name = Field(default="default", description="what the run is filed under")
    task: Literal["classification", "regression", "language_modeling"] = Field(description="what is learned")
    dataset: Annotated[str, StringConstraints(pattern=DATASET_PATTERN)] = Field(description="NAME, or NAME@VERSION")
    data: Data = Data()
    model: Model = Field(default_factory=lambda found: _usual_model(found.get("task")), description="what learns")
    hyperparameters: Hyperparameters = Hyperparameters()
    validation: Validation = Validation()
    early_stopping: EarlyStopping | None = Field(default=None, description="when to end before the last step")
    checkpoints: Checkpoints = Checkpoints()
    resources: Resources = Resources()
    limits: Limits = Limits()
    gate: Gate | None = Field(default=None, description="diagnose the job while it trains")
    on_non_finite: Literal["fail", "continue"] = Field(
        default="fail", description="what happens when a loss is NaN or infinite"
    )
    priority: Priority = Field(default=0, description="higher starts first")
    depends_on: list[Annotated[str, StringConstraints(pattern=ID_PATTERN)]] = Field(
        default=[], max_length=100, description="ids of jobs that must have succeeded first"
    )
    tags: dict[TagKey, Text] = Field(default={}, max_length=MOST_TAGS, description="free labels")


LOSSES = {
    "classification": ("cross_entropy", "bce"),
    "regression": ("mse", "l1", "huber"),
    "language_modeling": ("cross_entropy",),
}


def _further(task: str) -> list[str]:
    return [name for name, extension in FURTHER.items() if task in extension.tasks]


# The models of each task, the one that is used when none is named first.
MODELS = {
    "classification": ("mlp", "linear", "cnn", *_further("classification")),
    "regression": ("mlp", "linear", "cnn", *_further("regression")),
    "language_modeling": ("gpt",),
}
EVERY_MODEL = {name for names in MODELS.values() for name in names}
# Kinds of data, for models that do not take all that their tasks do.
DATA_KINDS: dict[str, tuple[str, ...]] = {"cnn": ("images",)} | {name: each.data for name, each in FURTHER.items()}

# What is measured at each validation of each task.
METRICS: dict[str, tuple[ValidationMetric, ...]] = {
    "classification": ("val_loss", "val_accuracy", "val_recall", "val_precision", "val_f1"),
    "regression": ("val_loss", "val_mae", "val_r2"),
    "language_modeling": ("val_loss", "val_perplexity"),
}

# Hyperparameters that only some optimizers read.
READ_BY = {"momentum": ("sgd", "rmsprop"), "betas": ("adam", "adamw")}


def parse(
    raw: Mapping[str, Any],
    further: Callable[[Mapping[str, Any]], Iterable[FieldProblem]],
    met: Iterable[FieldProblem] = (),
) -> JobSpec:
    """A validated spec with every default filled in.

    raw: the decoded JSON object. further: looks at the raw spec too, for what this module cannot know (does the
    data set exist?). met: problems that were met while decoding. All are told at once, the first one of a field.
    Raises InvalidInput with every problem found.
    """
    found = list(met)
    spec = None
    try:
        spec = JobSpec.model_validate(raw)
    except ValidationError as error:
        found += field_problems(error.errors(include_input=False, include_url=False), raw, JobSpec)
    found += [*contradictions(raw), *further(raw)]
    if spec is None or found:
        raise InvalidInput(list({problem.param: problem for problem in reversed(found)}.values())[::-1])
    return filled(spec)


def is_dataset_reference(text: str) -> bool:
    return re.fullmatch(DATASET_PATTERN, text) is not None


def filled(spec: JobSpec) -> JobSpec:
    """The spec with the defaults that depend on other fields."""
    chosen = spec.hyperparameters
    epochs = 10 if chosen.epochs is None and chosen.max_steps is None else chosen.epochs
    loss = chosen.loss or LOSSES[spec.task][0]
    held = spec.resources
    processes = int(held.gpus) if held.gpus > 1 else held.processes
    return spec.model_copy(
        update={
            "resources": held.model_copy(update={"processes": processes}),
            "name": spec.name or f"{spec.dataset} {spec.model.type}",
            "hyperparameters": chosen.model_copy(update={"epochs": epochs, "loss": loss}),
        }
    )


def contradictions(raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    """What is wrong between fields that are each well formed. Reads the raw spec: other fields may be broken."""
    yield from _task_misfits(raw)
    held = _inner(raw, "resources")
    gpus, processes = held.get("gpus", 0), held.get("processes", 1)
    if isinstance(gpus, int | float) and isinstance(processes, int) and 0 < gpus != processes > 1:
        message = "with GPUs there is one process for each: leave it out, or give their number"
        yield FieldProblem("resources.processes", "one_for_each_gpu", message)
    chosen = raw.get("hyperparameters")
    if not isinstance(chosen, dict):
        return
    if chosen.get("epochs") is not None and chosen.get("max_steps") is not None:
        yield FieldProblem("hyperparameters.max_steps", "exclusive", "give epochs or max_steps, not both")
    task, loss = raw.get("task"), chosen.get("loss")
    if isinstance(task, str) and task in LOSSES and isinstance(loss, str) and loss not in LOSSES[task]:
        fitting = " or ".join(LOSSES[task])
        yield FieldProblem("hyperparameters.loss", "loss_does_not_fit", f"the loss of {task} is {fitting}")
    smoothing = chosen.get("label_smoothing")
    smoothable = task in ("classification", "language_modeling") and loss in (None, "cross_entropy")
    if isinstance(smoothing, float) and smoothing > 0 and not smoothable:
        yield FieldProblem(
            "hyperparameters.label_smoothing", "loss_does_not_fit", "label smoothing is a part of cross_entropy alone"
        )
    warmup = chosen.get("warmup_steps")
    if chosen.get("lr_schedule") == "one_cycle" and isinstance(warmup, int) and warmup > 0:
        yield FieldProblem("hyperparameters.warmup_steps", "exclusive", "one_cycle has a warm-up of its own")


def _task_misfits(raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    task, model, stopping = raw.get("task"), _inner(raw, "model"), _inner(raw, "early_stopping")
    if isinstance(task, str) and task in METRICS:
        kind, metric = model.get("type"), stopping.get("metric")
        if isinstance(kind, str) and kind in EVERY_MODEL and kind not in MODELS[task]:
            message = f"the model of {task} is {' or '.join(MODELS[task])}"
            yield FieldProblem("model.type", "model_does_not_fit", message)
        if isinstance(metric, str) and metric not in METRICS[task]:
            message = f"the validations of {task} give {', '.join(METRICS[task])}"
            yield FieldProblem("early_stopping.metric", "metric_does_not_fit", message)
    heads, width = model.get("heads", GptModel().heads), model.get("width", GptModel().width)
    if model.get("type") == "gpt" and isinstance(heads, int) and isinstance(width, int) and heads > 0 and width % heads:
        yield FieldProblem("model.heads", "must_divide_width", "the heads share the width: it must be a multiple")


def _inner(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = raw.get(name)
    return found if isinstance(found, dict) else {}


def parameters(spec: JobSpec) -> dict[str, Any]:
    """What distinguishes one run from another, flat, with dotted names. Lists are values, not further levels."""
    apart = {"name", "project", "priority", "depends_on", "tags", "limits", "checkpoints", "gate"}
    return dict(_flat(spec.model_dump(mode="json", exclude=apart), ""))


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def field_problems(errors: Iterable[Any], raw: Any, model: type[BaseModel]) -> list[FieldProblem]:
    """Pydantic's errors as problems, one for each field, with hints for names that were mistyped.

    errors: as `ValidationError.errors()` gives them. raw: what was validated; never repeated in a message.
    """
    found: dict[str, FieldProblem] = {}
    for error in errors:
        path, siblings = _path(error["loc"], raw, missing=error["type"] == "missing")
        if error["type"].startswith("union_tag"):
            path.append(error["ctx"]["discriminator"].strip("'"))
        param = ".".join(map(str, path))[:256] or "body"
        problem = FieldProblem(param, str(error["type"]), _message(error))
        if error["type"] == "extra_forbidden":
            problem = _unknown(param, siblings(model))
        earlier = found.get(param)
        if earlier is None:
            found[param] = problem
        elif earlier.message != problem.message:
            # The branches of a union each say what they wanted.
            found[param] = FieldProblem(param, earlier.code, f"{earlier.message}, or: {problem.message}")
    return list(found.values())


def _message(error: Any) -> str:
    """Pydantic's sentence, unless it would repeat the value."""
    if error["type"] == "union_tag_invalid":
        return f"Input should be one of {error['ctx']['expected_tags']}"
    if error["type"] == "union_tag_not_found":
        return "Field required"
    return str(error["msg"]).removeprefix("Value error, ")


def _unknown(param: str, names: list[str]) -> FieldProblem:
    close = difflib.get_close_matches(param.rpartition(".")[2][:64], names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(names)}" if names else None
    return FieldProblem(param, "unknown_field", "there is no such field", hint)


def _path(
    location: tuple[int | str, ...], raw: Any, *, missing: bool
) -> tuple[list[int | str], Callable[[type[BaseModel]], list[str]]]:
    """The part of an error's location that exists in the input: names of union branches are left out.

    Also a function that lists the field names at the last level, for hints.
    """
    path: list[int | str] = []
    here = raw
    tags: list[tuple[int, str]] = []
    for index, part in enumerate(location):
        within = isinstance(here, dict) and part in here
        if within or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            here = here[part]
            path.append(part)
        elif part == "[key]":
            continue
        elif missing and index == len(location) - 1:
            path.append(part)
        else:
            tags.append((len(path), str(part)))

    def names(model: type[BaseModel]) -> list[str]:
        return _field_names(model, [part for part in path[:-1] if isinstance(part, str)], dict(tags))

    return path, names


def _field_names(model: type[BaseModel], path: list[str], tags: dict[int, str]) -> list[str]:
    here: Any = model
    for depth, part in enumerate(path, start=1):
        field = getattr(here, "model_fields", {}).get(part)
        if field is None:
            return []
        here = field.annotation
        branches = [branch for branch in getattr(here, "__args__", ()) if hasattr(branch, "model_fields")]
        for branch in branches:
            # One alone is a model or null; of several, the tag tells which.
            if len(branches) == 1 or branch.model_fields["type"].default == tags.get(depth):
                here = branch
    return list(getattr(here, "model_fields", {}))

"""What a person asks for: the job spec. Declared once: it validates requests, is stored, and steers the trainer."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service import patterns
from service.extensions import FurtherModel
from service.ids import ID_PATTERN
from service.tasks import EVERY_LOSS, EVERY_VALIDATION_METRIC, FURTHER_MODELS, MODELS, TASKS

Name = Annotated[str, StringConstraints(pattern=patterns.NAME)]
Text = Annotated[str, StringConstraints(max_length=4096)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=1, le=16_384)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
TagKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
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


# What further tasks and models add is known when the service starts, and not when types are checked.
if TYPE_CHECKING:
    AnyModel = LinearModel | MlpModel | CnnModel | GptModel | FurtherModel
    TaskName: TypeAlias = str
    Loss: TypeAlias = str
    ValidationMetric: TypeAlias = str
else:
    AnyModel = Union[LinearModel, MlpModel, CnnModel, GptModel, *(each.model for each in FURTHER_MODELS.values())]
    TaskName, Loss = Literal[tuple(TASKS)], Literal[EVERY_LOSS]
    ValidationMetric = Literal[EVERY_VALIDATION_METRIC]

Model = Annotated[AnyModel, Field(discriminator="type")]


def _usual_model(task: str) -> AnyModel:
    made: AnyModel = model_class(MODELS[task][0])()
    return made


def model_class(kind: str) -> Any:
    """Raises KeyError for a kind that there is not."""
    return {each.model_fields["type"].default: each for each in get_args(AnyModel)}[kind]


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
    loss: Loss | None = Field(default=None, description="what is minimised; the first one of the task when not given")
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
    task: TaskName = Field(description="what is learned")
    dataset: Annotated[str, StringConstraints(pattern=patterns.DATASET)] = Field(description="NAME, or NAME@VERSION")
    data: Data = Data()
    model: Model = Field(
        default_factory=lambda found: _usual_model(found.get("task", "classification")), description="what learns"
    )
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


# Hyperparameters that only some optimizers read.
READ_BY = {"momentum": ("sgd", "rmsprop"), "betas": ("adam", "adamw")}


def is_dataset_reference(text: str) -> bool:
    return re.fullmatch(patterns.DATASET, text) is not None


def filled(spec: JobSpec) -> JobSpec:
    """The spec with the defaults that depend on other fields."""
    chosen = spec.hyperparameters
    epochs = 10 if chosen.epochs is None and chosen.max_steps is None else chosen.epochs
    loss = chosen.loss or TASKS[spec.task].losses[0]
    held = spec.resources
    processes = int(held.gpus) if held.gpus > 1 else held.processes
    return spec.model_copy(
        update={
            "resources": held.model_copy(update={"processes": processes}),
            "name": spec.name or f"{spec.dataset} {spec.model.type}",
            "hyperparameters": chosen.model_copy(update={"epochs": epochs, "loss": loss}),
        }
    )


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

"""What a person asks for: the job spec. Declared once: it validates requests, is stored, and steers the trainer."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from service.errors import FieldProblem, InvalidInput
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
    dropout: Probability = Field(default=0.0, description="share of hidden units zeroed at each training step")


Model = Annotated[LinearModel | MlpModel, Field(discriminator="type")]


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
    max_grad_norm: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="gradients with a larger norm are scaled down to it"
    )
    drop_last: bool = Field(default=False, description="leave out the last batch of an epoch when it is smaller")
    shuffle: bool = Field(default=True, description="a new order of the samples in each epoch, set by the seed")
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
        default=0.2, description="share of the rows; stratified by class for classification"
    )
    every_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="steps between validations; after each epoch when not given"
    )


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
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads of the trainer")


class Limits(Part):
    """When the service gives up on a job."""

    max_seconds: Annotated[float, Field(gt=0, le=31_536_000)] | None = Field(
        default=None, description="running time after which the job fails with time_limit"
    )
    max_attempts: int = Field(default=3, ge=1, le=100, description="executions in all when workers are lost")


class JobSpec(Part):
    """A training job. Only `task` and `dataset` are required."""

    name: Label | None = Field(
        default=None, description="a label for people; made from data set and model when not given"
    )
    project: Name = Field(default="default", description="what the run is filed under")
    task: Literal["classification", "regression"] = Field(description="what is learned")
    dataset: Annotated[str, StringConstraints(pattern=DATASET_PATTERN)] = Field(description="NAME, or NAME@VERSION")
    data: Data = Data()
    model: Model = MlpModel()
    hyperparameters: Hyperparameters = Hyperparameters()
    validation: Validation = Validation()
    checkpoints: Checkpoints = Checkpoints()
    resources: Resources = Resources()
    limits: Limits = Limits()
    on_non_finite: Literal["fail", "continue"] = Field(
        default="fail", description="what happens when a loss is NaN or infinite"
    )
    priority: Priority = Field(default=0, description="higher starts first")
    depends_on: list[Annotated[str, StringConstraints(pattern=ID_PATTERN)]] = Field(
        default=[], max_length=100, description="ids of jobs that must have succeeded first"
    )
    tags: dict[TagKey, Text] = Field(default={}, max_length=MOST_TAGS, description="free labels")


# Fields of the contract that this version does not offer yet: refused by name, not as a typing mistake.
NOT_OFFERED = {
    "early_stopping": "early stopping is",
    "gate": "the gate is",
    "hyperparameters.precision": "another precision than float32 is",
    "hyperparameters.gradient_accumulation": "gradient accumulation is",
}

LOSSES = {"classification": ("cross_entropy", "bce"), "regression": ("mse", "l1", "huber")}

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
    return spec.model_copy(
        update={
            "name": spec.name or f"{spec.dataset} {spec.model.type}",
            "hyperparameters": chosen.model_copy(update={"epochs": epochs, "loss": loss}),
        }
    )


def contradictions(raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    """What is wrong between fields that are each well formed. Reads the raw spec: other fields may be broken."""
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
    smoothable = task == "classification" and loss in (None, "cross_entropy")
    if isinstance(smoothing, float) and smoothing > 0 and not smoothable:
        yield FieldProblem(
            "hyperparameters.label_smoothing", "loss_does_not_fit", "label smoothing is a part of cross_entropy alone"
        )
    warmup = chosen.get("warmup_steps")
    if chosen.get("lr_schedule") == "one_cycle" and isinstance(warmup, int) and warmup > 0:
        yield FieldProblem("hyperparameters.warmup_steps", "exclusive", "one_cycle has a warm-up of its own")


def parameters(spec: JobSpec) -> dict[str, Any]:
    """What distinguishes one run from another, flat, with dotted names. Lists are values, not further levels."""
    apart = {"name", "project", "priority", "depends_on", "tags", "limits", "checkpoints"}
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
    if param in NOT_OFFERED:
        return FieldProblem(param, "not_offered", f"{NOT_OFFERED[param]} not offered by this version")
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
            if branch.model_fields["type"].default == tags.get(depth):
                here = branch
    return list(getattr(here, "model_fields", {}))

"""What other installed packages bring by the entry point `trainbox.tasks`: tasks, and models. It knows no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

GROUP = "trainbox.tasks"
BUILT_IN_MODELS = {"linear", "mlp", "cnn", "gpt"}

Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
MetricName = Annotated[str, StringConstraints(pattern=r"^val_[a-z0-9_]{1,60}$")]


class Task(BaseModel):
    """What can be learned, and where trainers find how; the built-in tasks are declared by it as well.

    name: as specs name it. targets: what is learned of a data set: one of its `classes`, `numbers`, or the `bytes` of a
    text. losses, models: which fit, the one that is taken when none is named first; packages of models may add theirs.
    metrics: of each validation beside `val_loss`, and which way each is better.
    trainer: `MODULE:CLASS`, imported by trainers alone; `workers.training.tasks.Task` says what it has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Word
    description: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    targets: Literal["classes", "numbers", "bytes"]
    data: Annotated[tuple[Literal["table", "images", "text"], ...], Field(min_length=1)]
    losses: Annotated[tuple[Word, ...], Field(min_length=1)]
    models: Annotated[tuple[Word, ...], Field(min_length=1)]
    metrics: dict[MetricName, Literal["min", "max", "none"]]
    trainer: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+:[A-Za-z0-9_.]+$")]


class FurtherModel(BaseModel):
    """The fields of a model that another package brings; `type` becomes a literal with a default, as specs name it.

    Strict, as every part of a spec: a number is not taken from a string, and an unknown field is an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    type: str


@dataclass(frozen=True)
class Extension:
    """What an entry point names: a model, what it is for, and where the trainer finds it.

    model: its fields; the first line of its docstring is what `GET /v1/tasks` says of it. tasks: built in or brought,
    of tables or images. build: `MODULE:FUNCTION`, imported by trainers alone. Called with the model's fields, the shape
    of a sample, (columns,) or (channels, height, width), and the number of outputs, it returns a `torch.nn.Module`
    that takes float32 of shape (batch, *shape) and gives shape (batch, outputs).
    """

    model: type[FurtherModel]
    tasks: tuple[str, ...]
    data: tuple[Literal["table", "images"], ...]
    build: str

    @property
    def type(self) -> str:
        return str(self.model.model_fields["type"].default)

    @property
    def description(self) -> str:
        return (self.model.__doc__ or "").strip().partition("\n")[0].rstrip(".")


class BadExtension(Exception):
    """An installed package names something that the service cannot offer."""

    def __init__(self, entry: EntryPoint, reason: str) -> None:
        super().__init__(f"the entry point {entry.name} = {entry.value} of {GROUP} cannot be used: {reason}")


def installed(built_in: Iterable[Task]) -> tuple[dict[str, Task], dict[str, Extension]]:
    """The tasks and models that there are, by name and by type, the built-in tasks among them.

    Raises BadExtension: without what it names stored jobs would seem to be of no known form.
    """
    declared = [(entry, _loaded(entry)) for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)]
    tasks = {task.name: task for task in built_in}
    models: dict[str, Extension] = {}
    for entry, found in declared:
        if isinstance(found, Task):
            _expect(entry, found.name not in tasks, f"there is a task {found.name} already")
            tasks[found.name] = found
        else:
            literal = get_args(found.model.model_fields["type"].annotation)
            _expect(entry, literal == (found.type,), "the type of its model is no literal with a default")
            taken = found.type in BUILT_IN_MODELS or found.type in models
            _expect(entry, not taken, f"there is a model {found.type} already")
            models[found.type] = found
    for entry, found in declared:
        if isinstance(found, Task):
            _expect_sound(entry, found, tasks, models)
        else:
            for name in found.tasks:
                known = name in tasks and "text" not in tasks[name].data
                _expect(entry, known, f"there is no task {name} of tables or images")
    return tasks, models


def _loaded(entry: EntryPoint) -> Task | Extension:
    try:
        found = entry.load()
    except Exception as error:
        raise BadExtension(entry, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, Task | Extension):
        raise BadExtension(entry, "it is neither a Task nor an Extension of service.extensions")
    return found


def _expect_sound(entry: EntryPoint, task: Task, tasks: dict[str, Task], models: dict[str, Extension]) -> None:
    """What a task says must agree with what the others say."""
    _expect(entry, "text" not in task.data and task.targets != "bytes", "texts are for language_modeling alone")
    for name in task.models:
        known = (BUILT_IN_MODELS | models.keys()) - {"gpt"}
        _expect(entry, name in known, f"there is no model {name} of tables or images")
    _expect(entry, "val_loss" not in task.metrics, "val_loss is measured for every task")
    for other in tasks.values():
        for metric in other.metrics.keys() & task.metrics.keys():
            alike = other.metrics[metric] == task.metrics[metric]
            _expect(entry, alike, f"{metric} has another direction in {other.name}")


def _expect(entry: EntryPoint, holds: bool, reason: str) -> None:
    if not holds:
        raise BadExtension(entry, reason)

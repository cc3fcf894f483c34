"""Models that other installed packages bring, by the entry point `trainbox.tasks`. It knows no torch."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

GROUP = "trainbox.tasks"
BUILT_IN = {"linear", "mlp", "cnn", "gpt"}


class FurtherModel(BaseModel):
    """The fields of a model that another package brings; `type` becomes a literal with a default, as specs name it.

    Strict, as every part of a spec: a number is not taken from a string, and an unknown field is an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    type: str


@dataclass(frozen=True)
class Extension:
    """What an entry point names: a model, what it is for, and where the trainer finds it.

    model: its fields; the first line of its docstring is what `GET /v1/tasks` says of it.
    build: `MODULE:FUNCTION`, imported by trainers alone. Called with the model's fields, the shape of a sample,
    (columns,) or (channels, height, width), and the number of outputs, it returns a `torch.nn.Module` that takes
    float32 of shape (batch, *shape) and gives shape (batch, outputs).
    """

    model: type[FurtherModel]
    tasks: tuple[Literal["classification", "regression"], ...]
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


@cache
def installed() -> dict[str, Extension]:
    """By the type of the model. Raises BadExtension: without it stored jobs would seem to be of no known form."""
    found: dict[str, Extension] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            extension = entry.load()
        except Exception as error:
            raise BadExtension(entry, f"{type(error).__name__}: {error}") from error
        if not isinstance(extension, Extension):
            raise BadExtension(entry, "it is no service.extensions.Extension")
        if get_args(extension.model.model_fields["type"].annotation) != (extension.type,):
            raise BadExtension(entry, "the type of its model is no literal with a default")
        if extension.type in BUILT_IN or extension.type in found:
            raise BadExtension(entry, f"there is a model {extension.type} already")
        found[extension.type] = extension
    return found

"""What may be asked of a study: declared once, checked with every problem named at once."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel, TypeAdapter, ValidationError

from service import patterns
from service.errors import FieldProblem, InvalidInput
from service.field_problems import field_problems
from service.spec import Label, Part

MOST_JOBS = 1000
MetricName = Annotated[str, Field(pattern=patterns.METRIC)]
Seeds = Annotated[int, Field(ge=1, le=100)]
Batch = Annotated[int, Field(ge=1, le=1_048_576)] | Literal["full"]
Base = Annotated[dict[str, Any], Field(description="the spec of a job, which each job of the study changes")]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class RateRange(Part):
    """Learning rates in geometric progression, both ends included."""

    low: float = Field(default=1e-5, gt=0, le=100, description="the lowest")
    high: float = Field(default=10.0, gt=0, le=100, description="the highest")
    count: int = Field(default=16, ge=3, le=100, description="how many")


class Target(Part):
    """A value of a metric that counts as having learned enough."""

    metric: MetricName
    value: float


class Dimension(Part):
    """What a search may choose a parameter from: a range, or a list of choices."""

    type: Literal["float", "int"] | None = Field(default=None, description="of a range")
    low: float | None = None
    high: float | None = None
    log: bool | None = Field(default=None, description="whether the range is searched on a logarithmic scale")
    choices: list[Any] | None = Field(default=None, min_length=1, max_length=200)


class GridRequest(Part):
    """Every combination of the values, each with so many seeds."""

    kind: Literal["grid"] = "grid"
    name: Label | None = None
    base: Base
    grid: dict[Name, Annotated[list[Any], Field(min_length=1, max_length=200)]] = Field(min_length=1, max_length=16)
    seeds: Seeds = Field(default=1, description="runs of each combination: the base's seed and those that follow it")
    metric: MetricName | None = Field(
        default=None, description="val_loss when not given, or train_loss without a split"
    )


class SearchRequest(Part):
    """So many trials, each where the ones before suggest."""

    kind: Literal["search"] = "search"
    name: Label | None = None
    base: Base
    space: dict[Name, Dimension] = Field(min_length=1, max_length=16)
    trials: int = Field(ge=1, le=MOST_JOBS)
    metric: MetricName | None = Field(
        default=None, description="val_loss when not given, or train_loss without a split"
    )
    sampler: Literal["random", "tpe"] = "tpe"
    pruner: Literal["none", "median", "asha"] = Field(default="none", description="ends hopeless trials early")
    parallel: int = Field(default=4, ge=1, le=64, description="trials that wait or run at a time")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="of the sampler; all trials have the base's own seed")


class LrRangeRequest(Part):
    """Which learning rate to use, from the first steps at many."""

    kind: Literal["lr_range"] = "lr_range"
    name: Label | None = None
    base: Base
    learning_rates: RateRange = RateRange()
    steps: int = Field(default=100, ge=10, le=10_000, description="steps of each run")
    seeds: Annotated[int, Field(ge=1, le=20)] = Field(default=2, description="runs at each rate")


class BatchSizeRequest(Part):
    """Which batch size to use: the quickest to a target, and the most accurate."""

    kind: Literal["batch_size"] = "batch_size"
    name: Label | None = None
    base: Base
    batch_sizes: list[Batch] = Field(min_length=1, max_length=50)
    target: Target
    learning_rate: Literal["fixed", "linear", "sqrt", "range_test"] = Field(
        default="fixed",
        description="kept; scaled by the batch's size or its square root; or found for each size by a range test",
    )
    seeds: Seeds = 1
    learning_rates: RateRange = Field(default=RateRange(), description="of the range tests")
    steps: int = Field(default=100, ge=10, le=10_000, description="steps of a run of the range tests")


StudyRequest = Annotated[GridRequest | SearchRequest | LrRangeRequest | BatchSizeRequest, Field(discriminator="kind")]
Asked = GridRequest | SearchRequest | LrRangeRequest | BatchSizeRequest


class StudyRequestBody(RootModel[StudyRequest]):
    """A study: one of the kinds."""


READER: TypeAdapter[Asked] = TypeAdapter(StudyRequest)
MODELS: dict[str, type[Part]] = {
    "grid": GridRequest,
    "search": SearchRequest,
    "lr_range": LrRangeRequest,
    "batch_size": BatchSizeRequest,
}


def read(raw: Mapping[str, Any], met: Iterable[FieldProblem] = ()) -> tuple[Asked | None, list[FieldProblem]]:
    """The request, without the fields that are wrong where it can be without, and everything that is wrong with it
    and shows without looking at the base.

    met: problems that were met while decoding.
    """
    found = list(met)
    kind = raw.get("kind")
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        known = ", ".join(MODELS)
        message = "Field required" if "kind" not in raw else f"Input should be one of {known}"
        return None, [*found, FieldProblem("kind", "unknown_kind" if "kind" in raw else "missing", message)]
    asked: Asked | None = None
    try:
        asked = READER.validate_python(dict(raw))
    except ValidationError as error:
        errors: list[dict[str, Any]] = [
            {**each, "loc": each["loc"][1:] if each["loc"][:1] == (kind,) else each["loc"]}
            for each in error.errors(include_input=False, include_url=False)
        ]
        found += field_problems(errors, raw, model)
        with suppress(ValidationError):
            asked = READER.validate_python(_without(raw, [each["loc"] for each in errors]))
    if asked is not None:
        found += _contradictions(asked)
    return asked, found


def _without(raw: Mapping[str, Any], locations: Iterable[tuple[int | str, ...]]) -> dict[str, Any]:
    """The request without the fields in which something is wrong, so that what is wrong in the others is told too.

    A list goes as a whole: the places of what follows in it would be others.
    """
    left = {name: dict(value) if isinstance(value, dict) else value for name, value in raw.items()}
    for name, *further in locations:
        inner = left.get(str(name))
        if name in ("grid", "space") and further and isinstance(inner, dict):
            inner.pop(str(further[0]), None)
        else:
            left.pop(str(name), None)
    return left


def _contradictions(asked: Asked) -> Iterable[FieldProblem]:
    match asked:
        case GridRequest():
            yield from _repeated("grid", asked.grid)
        case SearchRequest():
            for name, dimension in asked.space.items():
                yield from _dimension(f"space.{name}", dimension)
        case LrRangeRequest():
            yield from _range(asked.learning_rates)
        case BatchSizeRequest():
            yield from _repeated("", {"batch_sizes": list(asked.batch_sizes)})
            if asked.learning_rate == "range_test":
                yield from _range(asked.learning_rates)


def _range(rates: RateRange) -> Iterable[FieldProblem]:
    if rates.low >= rates.high:
        yield FieldProblem("learning_rates.high", "empty_range", "the highest rate must be above the lowest")


def _repeated(prefix: str, values: Mapping[str, list[Any]]) -> Iterable[FieldProblem]:
    for name, each in values.items():
        for place, value in enumerate(each):
            # 1 and 1.0 make the same job, true and 1 do not.
            if any(value == other and isinstance(value, bool) is isinstance(other, bool) for other in each[:place]):
                path = f"{prefix}.{name}.{place}".lstrip(".")
                yield FieldProblem(path, "duplicate", "the same value stands here twice")


def _dimension(path: str, asked: Dimension) -> Iterable[FieldProblem]:
    if asked.choices is not None:
        for field in ("type", "low", "high", "log"):
            if getattr(asked, field) is not None:
                yield FieldProblem(f"{path}.{field}", "exclusive", "give choices or a range, not both")
        yield from _repeated(path, {"choices": asked.choices})
        return
    for field in ("low", "high"):
        value = getattr(asked, field)
        if value is None:
            yield FieldProblem(f"{path}.{field}", "missing", "a range has low and high; or give choices")
        elif asked.type == "int" and value != int(value):
            yield FieldProblem(f"{path}.{field}", "not_whole", "a range of whole numbers has whole ends")
    if asked.low is not None and asked.high is not None and asked.low >= asked.high:
        yield FieldProblem(f"{path}.high", "empty_range", "high must be above low")
    if asked.log and asked.low is not None and asked.low <= 0:
        yield FieldProblem(f"{path}.low", "not_positive", "a logarithmic range begins above 0")


def refuse(found: Iterable[FieldProblem]) -> None:
    """Raises InvalidInput when there is a problem: the first one of each field."""
    problems = list(found)
    if problems:
        raise InvalidInput(list({problem.param: problem for problem in reversed(problems)}.values())[::-1])

"""Which jobs a study means: what distinguishes each, and the spec that follows. Pure."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Self

import numpy as np

from service.spec import Hyperparameters
from service.studies.requests import (
    Asked,
    BatchSizeRequest,
    Dimension,
    GridRequest,
    LrRangeRequest,
    RateRange,
    SearchRequest,
)
from service.tasks import MODELS

RATE, BATCH = "hyperparameters.learning_rate", "hyperparameters.batch_size"
RANGE_TEST, RUNS = "range_test", "runs"  # the stages of a study of batch sizes
# What a spec without them means.
DEFAULT_RATE = float(Hyperparameters.model_fields["learning_rate"].default)
DEFAULT_BATCH = Hyperparameters.model_fields["batch_size"].default
SPLITS_APART = {"model.type": 0}  # goes first: another kind of model has other fields


@dataclass(frozen=True)
class Point:
    """One job of a study. parameters: dotted names and their values. error: why it could not become a job."""

    parameters: dict[str, Any]
    seed: int
    stage: str = RUNS
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        return cls(**stored)


def rates(wanted: RateRange) -> list[float]:
    """The learning rates of a range, rising."""
    return [float(f"{rate:.6g}") for rate in np.geomspace(wanted.low, wanted.high, wanted.count)]


def first(asked: Asked, seed: int, train_samples: int) -> list[Point]:
    """The points that are known when the study begins. seed: the base's."""
    match asked:
        case GridRequest():
            names = list(asked.grid)
            return [
                Point(dict(zip(names, values, strict=True)), seed + offset)
                for values in product(*asked.grid.values())
                for offset in range(asked.seeds)
            ]
        case SearchRequest():
            return []
        case LrRangeRequest():
            return [
                Point({RATE: rate}, seed + offset)
                for rate in rates(asked.learning_rates)
                for offset in range(asked.seeds)
            ]
        case BatchSizeRequest(learning_rate="range_test"):
            return [
                Point({BATCH: size, RATE: rate}, seed, RANGE_TEST)
                for size in asked.batch_sizes
                for rate in rates(asked.learning_rates)
            ]
        case BatchSizeRequest():
            return batch_runs(asked, seed, [_scaled(asked, size, train_samples) for size in asked.batch_sizes])


def batch_runs(asked: BatchSizeRequest, seed: int, found: list[float]) -> list[Point]:
    """The long runs of a study of batch sizes. found: the learning rate of each size."""
    return [
        Point({BATCH: size, RATE: rate}, seed + offset)
        for size, rate in zip(asked.batch_sizes, found, strict=True)
        for offset in range(asked.seeds)
    ]


def later(asked: Asked, seed: int) -> list[Point]:
    """The long runs that follow range tests, with the base's own learning rate, which stands in for what is found."""
    if not isinstance(asked, BatchSizeRequest) or asked.learning_rate != "range_test":
        return []
    return batch_runs(asked, seed, [own_rate(asked)] * len(asked.batch_sizes))


def own_rate(asked: Asked) -> float:
    return float(asked.base.get("hyperparameters", {}).get("learning_rate", DEFAULT_RATE))


def total(asked: Asked, known: int) -> int:
    """How many jobs the study has in all. known: those of its beginning."""
    match asked:
        case SearchRequest():
            return asked.trials
        case BatchSizeRequest(learning_rate="range_test"):
            return known + len(asked.batch_sizes) * asked.seeds
        case _:
            return known


def _scaled(asked: BatchSizeRequest, size: int | str, train_samples: int) -> float:
    """The learning rate for a batch size, by the policy asked for (Goyal et al. 2017; Krizhevsky 2014)."""
    rate, base = own_rate(asked), asked.base.get("hyperparameters", {}).get("batch_size", DEFAULT_BATCH)
    samples, base_samples = (
        train_samples if each == "full" else min(int(each), train_samples) for each in (size, base)
    )
    ratio = samples / base_samples
    power = {"fixed": 0.0, "linear": 1.0, "sqrt": 0.5}[asked.learning_rate]
    return float(rate * ratio**power)


def job_spec(asked: Asked, point: Point, name: str) -> dict[str, Any]:
    """The raw spec of a point's job. name: the study's."""
    raw = copy.deepcopy(dict(asked.base))
    if isinstance(asked, LrRangeRequest) or point.stage == RANGE_TEST:
        _shorten(raw, getattr(asked, "steps", 0))
    for path in sorted(point.parameters, key=lambda path: SPLITS_APART.get(path, 1)):
        put(raw, path, point.parameters[path])
    put(raw, "hyperparameters.seed", point.seed)
    told = ", ".join(f"{path.rpartition('.')[2]} {_short(value)}" for path, value in point.parameters.items())
    stage = "range test, " if point.stage == RANGE_TEST else ""
    raw["name"] = f"{name}: {stage}{told}, seed {point.seed}"[:200]
    return raw


def _shorten(raw: dict[str, Any], steps: int) -> None:
    """A run of a range test: so many steps at a constant rate, validated once, after the last."""
    for path, value in (
        ("hyperparameters.max_steps", steps),
        ("hyperparameters.lr_schedule", "constant"),
        ("hyperparameters.warmup_steps", 0),
        ("validation.every_steps", steps),
    ):
        put(raw, path, value)
    for name in ("early_stopping", "gate"):
        raw.pop(name, None)


def put(raw: dict[str, Any], path: str, value: Any) -> None:
    """Sets a dotted parameter. Naming one of epochs and max_steps takes the place of the other."""
    *parents, name = path.split(".")
    if path.startswith("model."):
        raw.setdefault("model", {"type": MODELS[raw["task"]][0]})
    here = raw
    for parent in parents:
        if not isinstance(here.get(parent), dict):
            here[parent] = {}
        here = here[parent]
    if path == "model.type" and here.get("type") != value:
        here.clear()
    here[name] = copy.deepcopy(value)
    if path in ("hyperparameters.epochs", "hyperparameters.max_steps"):
        here.pop("max_steps" if name == "epochs" else "epochs", None)


def ends(dimension: Dimension) -> dict[str, Any]:
    """The values of a dimension that must be possible for all in between to be, by the field that names them."""
    if dimension.choices is not None:
        return {f"choices.{place}": value for place, value in enumerate(dimension.choices)}
    whole = dimension.type == "int"
    return {
        name: int(value) if whole else float(value)
        for name, value in (("low", dimension.low), ("high", dimension.high))
        if value is not None
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:40]

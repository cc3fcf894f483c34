"""The rows of a data set, split, standardised and put in order. Everything here follows from the seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.datasets import arrays
from service.plan import Plan
from workers.training.preprocessing import Preprocessing

Indices = NDArray[np.int64]
Columns = list[dict[str, Any]] | None

HERE = Path(".")  # of a trainer: the folder of its attempt

# What chance is used for: the same seed gives each of them a stream of its own.
SPLIT, ORDER = 0, 1


class InputChanged(Exception):
    """The arrays are not those that the job was submitted for."""


@dataclass(frozen=True)
class Samples:
    """Some rows of a data set on the device.

    inputs: shape (n, columns), float32. targets: what the task's loss takes, n in the first dimension.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Rows:
    """A data set split in two and preprocessed, in main memory or mapped.

    inputs and validation_inputs: shape (n, width), float32: see `Preprocessing`.
    targets and validation_targets: shape (n,), as they are in the file.
    preprocessing: what was taken from the training split, as JSON.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.generic]
    validation_inputs: NDArray[np.float32]
    validation_targets: NDArray[np.generic]
    preprocessing: dict[str, Any]


def load(
    directory: Path | str,
    plan: Plan,
    seed: int,
    *,
    stratified: bool,
    columns: Columns = None,
    missing: str = "refuse",
    scratch: Path = HERE,
) -> Rows:
    """Reads `x`, shape (n, columns), and `y`, shape (n,), and holds the validation rows back, unless there are others.

    columns: as the data set describes them, None for numbers alone. missing: what becomes of empty cells. scratch: a
    folder for what is larger than the memory. Raises InputChanged when the number of rows is not the plan's.
    """
    x, y = _stored(directory, "x"), _stored(directory, "y")
    x_val, y_val = arrays.load(directory, "x_val"), arrays.load(directory, "y_val")
    if x_val is None or y_val is None:
        _expect(x, y, plan.train_samples + plan.validation_samples)
        labels = np.asarray(y) if stratified else np.zeros(len(y), np.int64)
        train, validation = split(labels, plan.validation_samples, seed)
        x_val, y_val = x, y
    else:
        _expect(x, y, plan.train_samples)
        _expect(x_val, y_val, plan.validation_samples)
        train, validation = np.arange(len(x)), np.arange(len(x_val))
    fitted = Preprocessing.fit(x, train, columns, missing)
    return Rows(
        fitted.table(x, train, scratch),
        np.array(y[train]),
        fitted.table(x_val, validation, scratch),
        np.array(y_val[validation]),
        fitted.to_json(),
    )


def _stored(directory: Path | str, name: str) -> NDArray[Any]:
    found = arrays.load(directory, name)
    if found is None:
        raise InputChanged(f"the data set has no array {name}")
    return found


def _expect(x: NDArray[Any], y: NDArray[Any], planned: int) -> None:
    if not len(x) == len(y) == planned:
        raise InputChanged(f"the data set has {min(len(x), len(y))} rows and the plan was made for {planned}")


def split(labels: Indices, validation_samples: int, seed: int) -> tuple[Indices, Indices]:
    """(train, validation): row numbers in ascending order, so many of them for validation, by chance.

    labels: shape (n,). Each label has its share of both; what the shares leave over after rounding down goes to the
    labels with the largest remainders, as in an apportionment of seats (Hamilton), so that the total is exact.
    """
    count = len(labels)
    _, label = np.unique(labels, return_inverse=True)
    sizes = np.bincount(label)
    shares, remainders = np.divmod(sizes * validation_samples, count)
    left_over = validation_samples - int(shares.sum())
    shares[np.argsort(-remainders, kind="stable")[:left_over]] += 1

    shuffled = _chance(seed, SPLIT).permutation(count)
    grouped = shuffled[np.argsort(label[shuffled], kind="stable")]
    within = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held_back = within < np.repeat(shares, sizes)
    return np.sort(grouped[~held_back]), np.sort(grouped[held_back])


def standardise(train: NDArray[np.float32], validation: NDArray[np.float32]) -> NDArray[np.float64]:
    """Takes the mean and the standard deviation of each column of `train` out of both arrays, in place.

    train, validation: shape (n, columns). Returns the standard deviations, 1 for a constant column: shape (columns,).
    """
    # A constant's mean is not always exactly the constant, and the tiny rest must not be blown up to one.
    constant = train.min(axis=0) == train.max(axis=0)
    mean = np.mean(train, axis=0, dtype=np.float64)
    train -= mean
    squares = np.einsum("ij,ij->j", train, train, dtype=np.float64)
    deviation = np.where(constant, 1.0, np.sqrt(squares / len(train)))
    train /= deviation
    validation -= mean
    validation /= deviation
    return deviation


def order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order in which an epoch, counted from 0, goes through the training samples: shape (samples,), int64."""
    return torch.from_numpy(_chance(seed, ORDER, epoch).permutation(samples))


def _chance(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=purpose)))

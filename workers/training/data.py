"""The rows of a data set, split, standardised and put in order. Everything here follows from the seed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.plan import Plan

Indices = NDArray[np.int64]

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
    """A data set split in two and standardised, still in main memory.

    inputs and validation_inputs: shape (n, columns), float32, with the mean and standard deviation of the training
    rows taken out; a constant column becomes zeros.
    targets and validation_targets: shape (n,), as they are in the file.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.generic]
    validation_inputs: NDArray[np.float32]
    validation_targets: NDArray[np.generic]


def load(directory: Path | str, plan: Plan, seed: int, *, stratified: bool) -> Rows:
    """Reads `x.npy`, shape (n, columns), and `y.npy`, shape (n,), and holds the validation rows back.

    Raises InputChanged when the number of rows is not the plan's.
    """
    x = np.load(Path(directory) / "x.npy", mmap_mode="r", allow_pickle=False)
    y = np.load(Path(directory) / "y.npy", mmap_mode="r", allow_pickle=False)
    planned = plan.train_samples + plan.validation_samples
    if not len(x) == len(y) == planned:
        raise InputChanged(f"the data set has {min(len(x), len(y))} rows and the plan was made for {planned}")
    labels = np.asarray(y) if stratified else np.zeros(planned, np.int64)
    train, validation = split(labels, plan.validation_samples, seed)
    inputs, validation_inputs = _rows(x, train), _rows(x, validation)
    standardise(inputs, validation_inputs)
    return Rows(inputs, np.array(y[train]), validation_inputs, np.array(y[validation]))


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


def _rows(x: NDArray[np.float32], chosen: Indices) -> NDArray[np.float32]:
    return np.array(x[chosen], dtype=np.float32)

"""The samples of a data set, split, standardised and put in order. Everything here follows from the seed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.datasets import arrays
from service.plan import Plan, windows
from workers.training import room
from workers.training.preprocessing import Preprocessing

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]
Columns = list[dict[str, Any]] | None

HERE = Path(".")  # of a trainer: the folder of its attempt

AT_ONCE = 4096  # images whose statistics are taken together
AHEAD_BYTES = 1 << 20  # of batches, fetched at once
ALIGNED_BYTES = 64  # where PyTorch lets memory of the processor begin

# What chance is used for: the same seed gives each of them a stream of its own.
SPLIT, ORDER, APART = 0, 1, 2


class InputChanged(Exception):
    """The arrays are not those that the job was submitted for."""


@dataclass(frozen=True)
class Samples:
    """Some samples of a data set on the device.

    inputs: shape (n, columns) of a table, (n, channels, height, width) of images in the type that they are stored in,
    (n, context) of a text's bytes. targets: what the task's loss takes, n in the first dimension.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Rows:
    """A data set split in two, in main memory or mapped, and what its preprocessing took from the training split.

    inputs and validation_inputs: of a table shape (n, width), float32: see `Preprocessing`; of images shape
    (n, channels, height, width) as stored; of a text shape (bytes,): n windows and one byte more.
    targets and validation_targets: shape (n,), as they are in the file; of a text the bytes again.
    preprocessing: what was taken from the training split, as JSON, and how the split was made: `split`.
    channels: (mean, deviation) of the channels of images, float32, shape (channels,) each.
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    validation_inputs: NDArray[Any]
    validation_targets: NDArray[Any]
    preprocessing: dict[str, Any]
    channels: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None


@dataclass(frozen=True)
class Look:
    """How a data set is looked at.

    stratified: each class has its share of both splits. context: bytes of a text's sample. columns: of a table, as the
    data set describes them, None for numbers alone. missing: see `Preprocessing`. scratch: a folder for what is larger
    than the memory.
    """

    stratified: bool
    context: int | None = None
    columns: Columns = None
    missing: str = "refuse"
    scratch: Path = HERE


def load(directory: Path | str, plan: Plan, seed: int, look: Look) -> Rows:
    """Reads a stored data set and holds the validation split back, unless it brings its own.

    The arrays `x` and `y` are a table or, with four dimensions, images; `text` is a text, cut into windows of `context`
    bytes. Raises InputChanged when the number of samples is not the plan's, and MissingValues.
    """
    text = arrays.load(directory, "text")
    if text is not None:
        return _text(text, arrays.load(directory, "text_val"), plan, look)
    x, y = _stored(directory, "x"), _stored(directory, "y")
    x_val, y_val = arrays.load(directory, "x_val"), arrays.load(directory, "y_val")
    if x_val is None or y_val is None:
        _expect(min(len(x), len(y)), plan.train_samples + plan.validation_samples, len(x) == len(y))
        labels = np.asarray(y) if look.stratified else np.zeros(len(y), np.int64)
        train, validation = split(labels, plan.validation_samples, seed)
        x_val, y_val = x, y
        held_back = _told("class" if look.stratified else "chance", seed, validation)
    else:
        _expect(min(len(x), len(y)), plan.train_samples, len(x) == len(y))
        _expect(min(len(x_val), len(y_val)), plan.validation_samples, len(x_val) == len(y_val))
        train, validation = np.arange(len(x)), np.arange(len(x_val))
        held_back = {"by": "data set"}
    targets, validation_targets = np.array(y[train]), np.array(y_val[validation])
    if x.ndim == 4:
        inputs = room.gathered(x, train, look.scratch)
        validation_inputs = room.gathered(x_val, validation, look.scratch)
        about = {"kind": "images", "shape": list(x.shape[1:]), "type": str(x.dtype), "split": held_back}
        return Rows(inputs, targets, validation_inputs, validation_targets, about, channel_statistics(inputs))
    fitted = Preprocessing.fit(x, train, look.columns, look.missing)
    inputs = fitted.table(x, train, look.scratch)
    about = fitted.to_json() | {"split": held_back}
    return Rows(inputs, targets, fitted.table(x_val, validation, look.scratch), validation_targets, about)


def _told(by: str, seed: int, validation: Indices) -> dict[str, Any]:
    """How rows were held back, and the SHA-256 of their numbers as little-endian integers of 64 bits."""
    return {"by": by, "seed": seed, "sha256": hashlib.sha256(validation.astype("<i8").tobytes()).hexdigest()}


def _stored(directory: Path | str, name: str) -> NDArray[Any]:
    found = arrays.load(directory, name)
    if found is None:
        raise InputChanged(f"the data set has no array {name}")
    return found


def _expect(found: int, planned: int, alike: bool = True) -> None:
    if found != planned or not alike:
        raise InputChanged(f"the data set has {found} rows and the plan was made for {planned}")


def _text(text: NDArray[Any], own: NDArray[Any] | None, plan: Plan, look: Look) -> Rows:
    """The validation split is the end of the text, so that no byte of it has been learned from.

    own: the text to validate with, if the data set brings one.
    """
    context = look.context or 1
    _expect(windows(len(text), context), plan.train_samples + (0 if own is not None else plan.validation_samples))
    if own is not None:
        _expect(windows(len(own), context), plan.validation_samples)
    end = own if own is not None else text[plan.train_samples * context :]
    about = {"kind": "text", "context": context, "split": {"by": "end" if own is None else "data set"}}
    train = _beginning(text, plan.train_samples * context + 1, look)
    validation = _beginning(end, plan.validation_samples * context + 1, look)
    return Rows(train, train, validation, validation, about)


def _beginning(text: NDArray[Any], size: int, look: Look) -> NDArray[Any]:
    """A copy, because PyTorch takes no array that cannot be written."""
    part = text[:size]
    out = room.empty(part.shape, part.dtype, look.scratch)
    out[:] = part
    return out


def channel_statistics(images: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(mean, deviation) of each channel, the deviation of a constant one being 1: float32, shape (channels,) each.

    images: shape (n, channels, height, width), any type.
    """
    pixels = images.size // images.shape[1]
    parts = np.array_split(images, -(-len(images) // AT_ONCE))
    mean = sum(part.sum(axis=(0, 2, 3), dtype=np.float64) for part in parts) / pixels
    squares = sum(np.square(part - mean[:, None, None]).sum(axis=(0, 2, 3)) for part in parts) / pixels
    constant = images.min(axis=(0, 2, 3)) == images.max(axis=(0, 2, 3))
    return mean.astype(np.float32), np.where(constant, 1.0, np.sqrt(squares)).astype(np.float32)


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


def standardise(train: NDArray[np.float32], validation: NDArray[np.float32]) -> tuple[Numbers, Numbers]:
    """Takes the mean and the standard deviation of each column of `train` out of both arrays, in place.

    train, validation: shape (n, columns). Returns both, the deviation of a constant column being 1: shape (columns,).
    """
    # A constant's mean is not always exactly the constant, and the tiny rest must not be blown up to one.
    constant = train.min(axis=0) == train.max(axis=0)
    mean: Numbers = np.asarray(np.mean(train, axis=0, dtype=np.float64))
    train -= mean
    squares = np.einsum("ij,ij->j", train, train, dtype=np.float64)
    deviation = np.where(constant, 1.0, np.sqrt(squares / len(train)))
    train /= deviation
    validation -= mean
    validation /= deviation
    return mean, deviation


def order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order in which an epoch, counted from 0, goes through the training samples: shape (samples,), int64."""
    return torch.from_numpy(_chance(seed, ORDER, epoch).permutation(samples))


def batches(samples: Samples, order: Tensor, size: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs and targets of an epoch, batch by batch, from the batch `first` on, counted from 0.

    Small batches are fetched many at a time, which are then the same ones wherever the epoch is entered. A batch begins
    where memory of its own would, or the bits of a product may hang on its place.
    """
    sizes = [size * each[:1].nbytes for each in (samples.inputs, samples.targets)]
    ahead = max(1, AHEAD_BYTES // sum(sizes)) if all(each % ALIGNED_BYTES == 0 for each in sizes) else 1
    for start in range(first - first % ahead, -(-len(order) // size), ahead):
        rows = order[start * size : (start + ahead) * size]
        fetched = [torch.split(each.index_select(0, rows), size) for each in (samples.inputs, samples.targets)]
        # As `data` each stands for itself: a model that writes into one leaves no trace in the graph of the next.
        coming = [(inputs.data, targets.data) for inputs, targets in zip(*fetched, strict=True)]
        coming = coming[max(0, first - start) :][::-1]
        del fetched
        while coming:  # a large batch is gone before the next is fetched
            yield coming.pop()


def apart(seed: int, rank: int, step: int) -> int:
    """A seed for the dropout of a process other than the first, of those that train together."""
    return int(_chance(seed, APART, rank, step).integers(2**63))


def _chance(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=purpose)))

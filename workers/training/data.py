"""The samples of a data set, split, standardised and put in order. Everything here follows from the seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.plan import Plan, windows

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]

AT_ONCE = 4096  # images whose statistics are taken together

# What chance is used for: the same seed gives each of them a stream of its own.
SPLIT, ORDER = 0, 1


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
    """A data set split in two, still in main memory, and what its preprocessing took from the training split.

    inputs and validation_inputs: of a table shape (n, columns), float32, standardised with the training rows; of images
    shape (n, channels, height, width) as stored; of a text shape (bytes,): n windows and one byte more.
    targets and validation_targets: shape (n,), as they are in the file; of a text the bytes again.
    channels: (mean, deviation) of the channels of images, float32, shape (channels,) each.
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    validation_inputs: NDArray[Any]
    validation_targets: NDArray[Any]
    preprocessing: dict[str, Any]
    channels: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None


def load(directory: Path | str, plan: Plan, seed: int, *, stratified: bool, context: int | None = None) -> Rows:
    """Reads a stored data set and holds the validation split back, unless it brings its own.

    `x.npy` and `y.npy` are a table or, with four dimensions, images; `text.npy` is a text, cut into windows of
    `context` bytes. Raises InputChanged when the number of samples is not the plan's.
    """
    folder = Path(directory)
    if (folder / "text.npy").exists():
        return _text(folder, plan, context or 1)
    x, y = _stored(folder, "x"), _stored(folder, "y")
    planned = plan.train_samples + plan.validation_samples
    if (folder / "x_val.npy").exists():
        _expect(min(len(x), len(y)), plan.train_samples, len(x) == len(y))
        parts = [np.array(x), np.array(y), np.array(_stored(folder, "x_val")), np.array(_stored(folder, "y_val"))]
        _expect(min(len(parts[2]), len(parts[3])), plan.validation_samples, len(parts[2]) == len(parts[3]))
    else:
        _expect(min(len(x), len(y)), planned, len(x) == len(y))
        labels = np.asarray(y) if stratified else np.zeros(planned, np.int64)
        train, validation = split(labels, plan.validation_samples, seed)
        parts = [np.array(x[train]), np.array(y[train]), np.array(x[validation]), np.array(y[validation])]
    return _images(*parts) if x.ndim == 4 else _table(*parts)


def _stored(folder: Path, name: str) -> NDArray[Any]:
    found: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return found


def _expect(found: int, planned: int, alike: bool = True) -> None:
    if found != planned or not alike:
        raise InputChanged(f"the data set has {found} rows and the plan was made for {planned}")


def _table(x: NDArray[Any], y: NDArray[Any], x_val: NDArray[Any], y_val: NDArray[Any]) -> Rows:
    inputs, validation_inputs = x.astype(np.float32, copy=False), x_val.astype(np.float32, copy=False)
    mean, deviation = standardise(inputs, validation_inputs)
    fitted = {"kind": "table", "mean": mean.tolist(), "deviation": deviation.tolist()}
    return Rows(inputs, y, validation_inputs, y_val, fitted)


def _images(x: NDArray[Any], y: NDArray[Any], x_val: NDArray[Any], y_val: NDArray[Any]) -> Rows:
    fitted = {"kind": "images", "shape": list(x.shape[1:]), "type": str(x.dtype)}
    return Rows(x, y, x_val, y_val, fitted, channel_statistics(x))


def _text(folder: Path, plan: Plan, context: int) -> Rows:
    """The validation split is the end of the text, so that no byte of it has been learned from."""
    text = _stored(folder, "text")
    own = (folder / "text_val.npy").exists()
    _expect(windows(len(text), context), plan.train_samples + (0 if own else plan.validation_samples))
    train = np.array(text[: plan.train_samples * context + 1])
    if own:
        end = _stored(folder, "text_val")
        _expect(windows(len(end), context), plan.validation_samples)
    else:
        end = text[plan.train_samples * context :]
    validation = np.array(end[: plan.validation_samples * context + 1])
    return Rows(train, train, validation, validation, {"kind": "text", "context": context})


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


def _chance(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=purpose)))

"""Tables as a model sees them: numbers standardised, categories one-hot, all from what the training split says.

Fitted once for a run and kept with its weights, so that what comes later is seen in the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workers.training import room

Table = NDArray[np.float32]
Indices = NDArray[np.int64]

# Statistics are added up in blocks of so many cells: what fits into one has the bits of NumPy's own.
BLOCK_CELLS = 1 << 24


class MissingValues(ValueError):
    """A cell is empty, and the job did not say what stands in for it."""


@dataclass(frozen=True)
class Preprocessing:
    """What the training split says of each column, in the order of the data set's.

    names: of the columns. values: of a category in ascending order, None for a number. mean, deviation: of a number,
    the deviation of a constant being 1; 0 and 1 for a category. missing: `refuse`, or `mean`: then an empty cell
    becomes the mean of a number, and none of the values of a category. dates: names of the columns that hold days
    since 1970, which people write as dates.
    """

    names: list[str]
    values: list[list[str] | None]
    mean: list[float]
    deviation: list[float]
    missing: str
    dates: list[str] = field(default_factory=list)

    @classmethod
    def fit(cls, x: Table, rows: Indices, columns: Sequence[dict[str, Any]] | None, missing: str) -> Self:
        """x: shape (n, columns), NaN where empty. rows: of the training split. columns: as the data set describes them;
        None for numbers alone.

        Raises MissingValues.
        """
        described: Sequence[dict[str, Any]] = columns or [{"name": f"x{at}"} for at in range(x.shape[1])]
        values = [column.get("values") for column in described]
        mean, deviation = _statistics(x, rows, missing)
        numbers = np.array([each is None for each in values], bool)
        mean, deviation = np.where(numbers, mean, 0.0), np.where(numbers, deviation, 1.0)
        names = [column["name"] for column in described]
        dates = [column["name"] for column in described if column.get("type") == "date"]
        return cls(names, values, mean.tolist(), deviation.tolist(), missing, dates)

    @property
    def width(self) -> int:
        """Inputs of the model."""
        return sum(1 if values is None else len(values) for values in self.values)

    def transform(self, x: Table) -> Table:
        """x: shape (n, columns), the codes of categories and NaN where empty; it may be changed. Shape (n, width).

        Raises MissingValues.
        """
        x -= np.array(self.mean)
        x /= np.array(self.deviation)
        if self.missing == "refuse":
            if np.isnan(x).any():
                raise MissingValues("the table has empty cells, and data.missing is refuse")
            if self.width == x.shape[1] and not any(self.values):
                return x
        out = np.zeros((len(x), self.width), np.float32)
        at = 0
        for column, values in zip(x.T, self.values, strict=True):
            if values is None:
                np.nan_to_num(column, copy=False, nan=0.0)
                out[:, at] = column
            else:
                known = np.flatnonzero(~np.isnan(column))
                out[known, at + column[known].astype(np.int64)] = 1
            at += 1 if values is None else len(values)
        return out

    def table(self, x: Table, rows: Indices, scratch: Path) -> Table:
        """Some rows of a data set, transformed: shape (len(rows), width). Where they are: see `room`."""
        out = room.empty((len(rows), self.width), np.float32, scratch)
        for part, block in _blocks(x, rows):
            out[part] = self.transform(block)
        return out

    def to_json(self) -> dict[str, Any]:
        return {"kind": "table", **asdict(self)}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        return cls(**{each.name: kept[each.name] for each in fields(cls) if each.name in kept})


def _blocks(x: Table, rows: Indices) -> Iterator[tuple[slice, Table]]:
    """Copies of these rows in their order, some at a time, and which of them they are."""
    for part in room.parts(len(rows), max(1, BLOCK_CELLS // x.shape[1])):
        yield part, np.asarray(x[rows[part]], dtype=np.float32)


def _statistics(x: Table, rows: Indices, missing: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column over these rows, empty cells left out: shape (columns,) each."""
    columns = x.shape[1]
    sums, counts = np.zeros(columns), np.zeros(columns, np.int64)
    least, most = np.full(columns, np.inf, np.float32), np.full(columns, -np.inf, np.float32)
    for _, block in _blocks(x, rows):
        empty = np.isnan(block)
        if missing == "refuse" and empty.any():
            raise MissingValues("the table has empty cells, and data.missing is refuse")
        least, most = np.fmin(least, np.fmin.reduce(block)), np.fmax(most, np.fmax.reduce(block))
        block[empty] = 0
        sums += np.sum(block, axis=0, dtype=np.float64)
        counts += len(block) - empty.sum(axis=0)
    counts = np.maximum(counts, 1)
    mean = sums / counts
    squares = np.zeros(columns)
    for _, block in _blocks(x, rows):
        block -= mean
        block[np.isnan(block)] = 0
        squares += np.einsum("ij,ij->j", block, block, dtype=np.float64)
    # A constant's mean is not always exactly the constant, and the tiny rest must not be blown up to one.
    return mean, np.where(least >= most, 1.0, np.sqrt(squares / counts))

"""Rollups: packed records, each summarising a stretch of one curve. They merge; no database is known here.

A record of level k stands for 16^k consecutive positions, the last one for as many as there are.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

FANOUT = 8  # records of one level that make one of the next
BLOCK = 48  # records stored together: a multiple of FANOUT, and a block then takes one overflow page of SQLite
TOP_LEVEL = 10  # a record of the next level would count beyond 32 bits
NOWHERE = np.iinfo(np.int64).max

RECORD = np.dtype(
    [
        ("position", "<i8"),  # of the first point
        ("count", "<u4"),
        ("nan", "<u4"),
        ("plus_inf", "<u4"),
        ("minus_inf", "<u4"),
        # Over the finite values. Without any: inf, -inf, 0 and NOWHERE, which leave the others alone when merged.
        ("min", "<f8"),
        ("max", "<f8"),
        ("mean", "<f8"),  # not the sum, which overflows where the mean does not
        ("min_position", "<i8"),
        ("max_position", "<i8"),
        ("first_step", "<i8"),
        ("low_step", "<i8"),
        ("high_step", "<i8"),
        ("first_time", "<f8"),
    ]
)
NON_FINITE = {"nan": np.nan, "plus_inf": np.inf, "minus_inf": -np.inf}
COUNTS = ("count", *NON_FINITE)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Records = NDArray[np.void]
Record = np.void
Renewed = dict[int, tuple[int, Records]]  # {level: (number of a block, its records and all behind it)}


def none() -> Records:
    return np.empty(0, RECORD)


def of_points(positions: Integers, steps: Integers, values: Floats, times: Floats) -> Records:
    """One record for each point: shape (n,) in and out."""
    records = np.empty(len(positions), RECORD)
    finite = np.isfinite(values)
    records["position"] = positions
    records["count"] = 1
    records["nan"] = np.isnan(values)
    records["plus_inf"] = values == np.inf
    records["minus_inf"] = values == -np.inf
    records["min"] = np.where(finite, values, np.inf)
    records["max"] = np.where(finite, values, -np.inf)
    records["mean"] = np.where(finite, values, 0.0)
    records["min_position"] = records["max_position"] = np.where(finite, positions, NOWHERE)
    records["first_step"] = records["low_step"] = records["high_step"] = steps
    records["first_time"] = times
    return records


def merge(records: Records, starts: Integers) -> Records:
    """Joins neighbours: the records from each start up to the next one become one record.

    records: shape (n,), in order of position. starts: shape (m,), rising, the first one 0.
    Exact, in whatever grouping, but for the mean: its error stays below 1e-12 of the largest absolute value.
    """
    merged = np.empty(len(starts), RECORD)
    if len(starts) == 0:
        return merged
    for name in ("position", "first_step", "first_time"):
        merged[name] = records[name][starts]
    for name in COUNTS:
        merged[name] = np.add.reduceat(records[name], starts)
    for name in ("min", "low_step"):
        merged[name] = np.minimum.reduceat(records[name], starts)
    for name in ("max", "high_step"):
        merged[name] = np.maximum.reduceat(records[name], starts)
    sizes = np.append(starts[1:], len(records)) - starts
    for name in ("min", "max"):
        reached = records[name] == np.repeat(merged[name], sizes)
        places = np.where(reached, records[f"{name}_position"], NOWHERE)
        merged[f"{name}_position"] = np.minimum.reduceat(places, starts)
    merged["mean"], _ = averages(records, starts, merged["min"], merged["max"])
    return merged


def averages(records: Records, starts: Integers, lows: Floats, highs: Floats) -> tuple[Floats, Integers]:
    """For each join of `merge` the mean of its finite values, 0 without any, and how many they are: shape (m,) each.

    lows, highs: the extremes of the joins.
    """
    weights = finite(records)
    totals = np.add.reduceat(weights, starts)
    sizes = np.append(starts[1:], len(records)) - starts
    shares = weights / np.repeat(np.maximum(totals, 1), sizes)
    with np.errstate(over="ignore"):  # shares may add up to a hair above 1, and the extremes set that right
        means = np.add.reduceat(records["mean"] * shares, starts)
    return np.where(totals > 0, np.minimum(np.maximum(means, lows), highs), 0.0), totals


def finite(records: Records) -> Integers:
    """How many finite values each record stands for: shape (n,)."""
    return np.asarray(records["count"].astype(np.int64) - non_finite(records))


def non_finite(records: Records) -> Integers:
    """How many NaN and infinities each record stands for: shape (n,)."""
    return np.asarray(records["nan"].astype(np.int64) + records["plus_inf"] + records["minus_inf"])


def groups(length: int, size: int = FANOUT) -> Integers:
    """Starts for `merge` that join `size` records at a time."""
    return np.arange(0, length, size)


def length(count: int, level: int) -> int:
    """Records of a level that a curve of `count` points has."""
    size: int = FANOUT**level
    return -(-count // size)


def top(count: int) -> int:
    """The highest level of a curve: level 1 is always there, level k when there are more than 16^k points."""
    level = 1
    while level < TOP_LEVEL and count > FANOUT ** (level + 1):
        level += 1
    return level


def tail_block(count: int, level: int) -> int:
    """The block that the next point of a curve of `count` points changes."""
    size: int = FANOUT**level * BLOCK
    return count // size


def extend(count: int, tails: dict[int, Records], points: Records) -> Renewed:
    """What is stored anew when points are added to a curve of `count` points.

    tails: the stored records of `tail_block` of each level. points: records of one point each, shape (n,).
    Returns for each level the first block that changes and those behind it; of the top level that is all of them.
    """
    renewed: Renewed = {}
    lower, lower_first = none(), 0
    for level in range(1, top(count + len(points)) + 1):
        kept_to = count // FANOUT**level if level == 1 or count > FANOUT**level else 0
        block = kept_to // BLOCK
        first = block * BLOCK
        stored = tails.get(level, none())
        if level == 1:
            partial = stored[kept_to - first : kept_to - first + 1] if count % FANOUT else none()
            fresh = _complete(partial, points, count % FANOUT)
        else:
            below = lower[kept_to * FANOUT - lower_first :]
            fresh = merge(below, groups(len(below)))
        lower, lower_first = join([stored[: kept_to - first], fresh]), first
        renewed[level] = (block, lower)
    return renewed


def _complete(partial: Records, points: Records, within: int) -> Records:
    """Level 1 from its unfinished last record, which stands for `within` points, and the points behind it."""
    if within == 0:
        return merge(points, groups(len(points)))
    starts = np.concatenate([[0], np.arange(FANOUT - within + 1, len(points) + 1, FANOUT)])
    return merge(join([partial, points]), starts)


def whole(renewed: Renewed) -> Record:
    """The whole curve as one record."""
    _, records = renewed[max(renewed)]
    one: Record = merge(records, np.zeros(1, np.int64))[0]
    return one


def blocks(first: int, records: Records) -> list[tuple[int, bytes]]:
    """Records cut into numbered blocks as they are stored; `first` is the number of the first block."""
    return [
        (first + index, records[start : start + BLOCK].tobytes())
        for index, start in enumerate(range(0, len(records), BLOCK))
    ]


def join(parts: Iterable[Any]) -> Records:
    """Records, or stored blocks of them, behind one another; read-only."""
    return np.frombuffer(b"".join(parts), RECORD)  # ten times faster than np.concatenate, which compares the fields

"""Rollups: packed records, each summarising a stretch of one curve. They merge; no database is known here.

A record of level 1 stands for 16 consecutive positions, one of the next level for 8 of those, and so on; the last one
of each level stands for as many positions as there are.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIRST = 16  # points that make a record of level 1
FANOUT = 8  # records of one level that make one of the next
# Records stored together, multiples of FANOUT. SQLite keeps up to 1002 bytes of a row in its page, and gives a page of
# its own to what is beyond: 48 records as they are just fill one, and 24 compressed ones need none.
BLOCK, PACKED_BLOCK = 48, 24
TOP_LEVEL = 10  # a record of the next level would count beyond 32 bits
PACKING = 1  # of zlib: the quickest
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


def size(level: int) -> int:
    """Positions that a whole record of a level stands for; 1 at level 0, where records are points."""
    positions: int = FIRST * FANOUT ** (level - 1) if level else 1
    return positions


def length(count: int, level: int) -> int:
    """Records of a level that a curve of `count` points has."""
    return -(-count // size(level))


def top(count: int) -> int:
    """The highest level of a curve: level 1 is always there, a higher one when it has more than one record."""
    level = 1
    while level < TOP_LEVEL and count > size(level + 1):
        level += 1
    return level


def block(level: int) -> int:
    """Records of a level that are stored together."""
    return PACKED_BLOCK if level == 1 else BLOCK


def tail_block(count: int, level: int) -> int:
    """The block that the next point of a curve of `count` points changes."""
    return count // size(level) // block(level)


def groups(length: int, size: int) -> Integers:
    """Starts for `merge` that join `size` records at a time."""
    return np.arange(0, length, size)


@dataclass(frozen=True, eq=False)
class Growth:
    """Points to be added to a curve of `count` points.

    tails: the stored records of `tail_block` of each level. points: records of one point each, shape (n,).
    """

    count: int
    tails: dict[int, Records]
    points: Records

    @property
    def top(self) -> int:
        return top(self.count + len(self.points))

    def unchanged(self, level: int) -> int:
        """The records at the beginning of a level that stay as they are."""
        return self.count // size(level) if level == 1 or self.count > size(level) else 0


def extend(growths: Sequence[Growth]) -> list[Renewed]:
    """What is stored anew, for each curve: the first block that changes at each level, and those behind it.

    Of the top level that is all of them. The curves grow together because the cost lies in the calls, not in the
    points: a level of all of them is merged at once.
    """
    renewed: list[Renewed] = [{} for _ in growths]
    for level in range(1, max((growth.top for growth in growths), default=0) + 1):
        grown = [(growth, done) for growth, done in zip(growths, renewed, strict=True) if level <= growth.top]
        sources, starts, before = [], [], 0
        for growth, done in grown:
            sources.append(_unmerged(growth, done, level))
            starts.append(_starts(growth, len(sources[-1]), level) + before)
            before += len(sources[-1])
        merged, place = merge(join(sources), np.concatenate(starts)), 0
        for (growth, done), its in zip(grown, starts, strict=True):
            number, within = divmod(growth.unchanged(level), block(level))
            kept = growth.tails.get(level, none())[:within]
            done[level] = (number, join([kept, merged[place : place + len(its)]]))
            place += len(its)
    return renewed


def _unmerged(growth: Growth, renewed: Renewed, level: int) -> Records:
    """What makes the records of a level that change: at level 1 its unfinished last record and the new points."""
    unchanged = growth.unchanged(level)
    if level > 1:
        number, below = renewed[level - 1]
        return below[unchanged * FANOUT - number * block(level - 1) :]
    if growth.count % FIRST == 0:
        return growth.points
    within = unchanged % block(1)
    return join([growth.tails[1][within : within + 1], growth.points])


def _starts(growth: Growth, length: int, level: int) -> Integers:
    if level > 1:
        return groups(length, FANOUT)
    unfinished = growth.count % FIRST  # points that the first record stands for already
    if unfinished == 0:
        return groups(length, FIRST)
    return np.concatenate([[0], np.arange(FIRST - unfinished + 1, length, FIRST)])


def whole(renewed: Sequence[Renewed]) -> Records:
    """Each curve as one record: shape (n,) for n curves."""
    tops = [levels[max(levels)][1] for levels in renewed]
    lengths = [len(records) for records in tops]
    return merge(join(tops), np.cumsum([0, *lengths[:-1]], dtype=np.int64)[: len(tops)])


def blocks(level: int, first: int, records: Records) -> list[tuple[int, bytes]]:
    """Records of a level cut into numbered blocks as they are stored; `first` is the number of the first block."""
    return [
        (first + index, packed(level, records[start : start + block(level)]))
        for index, start in enumerate(range(0, len(records), block(level)))
    ]


def packed(level: int, records: Records) -> bytes:
    """A block as it is stored: of level 1, where most bytes are, in a third of them, for 50 microseconds of work."""
    content = records.tobytes()
    if level > 1:
        return content
    # First bytes of all records first, and so on: numbers that rise or stay have most of theirs in common.
    return zlib.compress(np.frombuffer(content, np.uint8).reshape(-1, RECORD.itemsize).T.tobytes(), PACKING)


def unpacked(level: int, blocks: Iterable[bytes]) -> Records:
    """The records of stored blocks of a level, behind one another."""
    if level > 1:
        return join(blocks)
    contents = (np.frombuffer(zlib.decompress(block), np.uint8) for block in blocks)
    return join(content.reshape(RECORD.itemsize, -1).T.tobytes() for content in contents)


def join(parts: Iterable[Any]) -> Records:
    """Records, or the bytes of some, behind one another; read-only."""
    return np.frombuffer(b"".join(parts), RECORD)  # ten times faster than np.concatenate, which compares the fields

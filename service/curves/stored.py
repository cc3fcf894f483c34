"""Stored points and rollups as arrays, and arrays as rows to store."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from service.curves import rollups
from service.curves.rollups import Floats, Integers, Record, Records
from service.curves.statements import marks, parts, tuples
from service.driver import rows, write
from service.tables.curves import NOT_FINITE

TICKS = 10_000  # a second
COLUMNS = "position, lead, value, ticks"  # of `as_columns`
STORE_BLOCK = (
    "INSERT INTO rollups (series, level, block, data) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (series, level, block) DO UPDATE SET data = excluded.data"
)
UPDATE_SERIES = (
    "UPDATE series SET count = ?, non_finite = ?, first = ?, first_step = ?, last = ?, last_step = ?, "
    "min = ?, min_step = ?, max = ?, max_step = ? WHERE id = ?"
)


class Points(NamedTuple):
    """Points in order of logging: shape (n,) each, times in seconds of active training."""

    positions: Integers
    steps: Integers
    values: Floats
    times: Floats

    @classmethod
    def of_rows(cls, found: Sequence[tuple[int, int, float | None, float]]) -> "Points":
        """From rows of (position, step, value, time), where a NULL value is NaN."""
        positions, steps, values, times = zip(*found, strict=True) if found else ((), (), (), ())
        return cls(
            np.array(positions, np.int64),
            np.array(steps, np.int64),
            np.array(values, np.float64),  # None becomes NaN
            np.array(times, np.float64),
        )

    @classmethod
    def joined(cls, parts: Iterable["Points"]) -> "Points":
        """Behind one another."""
        columns = zip(NO_POINTS, *parts, strict=True)
        return cls._make(np.concatenate(column) for column in columns)

    def where(self, wanted: NDArray[Any]) -> "Points":
        """Those that a mask or indices choose."""
        return Points._make(column[wanted] for column in self)

    def head(self, most: int) -> "Points":
        """The first ones, at most so many."""
        return Points._make(column[:most] for column in self)


NO_POINTS = Points.of_rows([])


def as_columns(points: Points) -> list[list[Any]]:
    """Positions, leads, values and ticks: see the table."""
    values = points.values.tolist()
    if np.isnan(points.values).any():
        values = [nullable(value) for value in values]
    leads = points.steps - points.positions
    return [points.positions.tolist(), leads.tolist(), values, _ticks(points.times).tolist()]


def rounded(times: Floats) -> Floats:
    """Times as they will be read. What is made of points that are not stored yet must be what is made of them later."""
    return _ticks(times) / TICKS


def _ticks(times: Floats) -> Integers:
    return np.rint(times * TICKS).astype(np.int64)


def points(session: Session, series: int, start: int, stop: int) -> Points:
    """From position `start` to before `stop`, or to the last one there is."""
    # As they are stored: SQLite would take a third longer to compute steps and times row by row.
    found = rows(
        session,
        "SELECT lead, value, ticks FROM points WHERE series = ? AND position >= ? AND position < ? ORDER BY position",
        (series, start, stop),
    )
    leads, values, ticks = zip(*found, strict=True) if found else ((), (), ())
    positions = np.arange(start, start + len(found))
    return Points(
        positions,
        positions + np.array(leads, np.int64),
        np.array(values, np.float64),  # None becomes NaN
        np.array(ticks, np.int64) / TICKS,
    )


def points_at(session: Session, series: int, positions: Sequence[int]) -> Points:
    """The points at these rising positions that there are."""
    found: list[Any] = []
    for some in parts(positions):
        statement = (
            "SELECT position, step, value, time FROM points "  # noqa: S608
            f"WHERE series = ? AND position IN ({marks(some)}) ORDER BY position"
        )
        found += rows(session, statement, (series, *some))
    return Points.of_rows(found)


def points_of(session: Session, wanted: Sequence[tuple[int, int]]) -> tuple[Integers, Points]:
    """The points at these places, each a series and a position: the series, and the points, in order of both."""
    found: list[Any] = []
    for some in parts(wanted):
        statement = (
            "SELECT series, position, step, value, time FROM points "  # noqa: S608
            f"WHERE (series, position) IN (VALUES {tuples(2, some)}) ORDER BY series, position"
        )
        found += rows(session, statement, [value for place in some for value in place])
    return _with_series(found)


def not_finite(session: Session, wanted: Sequence[tuple[int, int, int]]) -> tuple[Integers, Points]:
    """Of these stretches, each a series and positions from the first to before the last, the points that are NaN or
    infinite, which have an index of their own: the series, and the points, in order of both within each stretch.
    """
    found: list[Any] = []
    for some in parts(wanted):
        # Unless the index is named, SQLite takes it for no better than the key, and walks through the whole stretch.
        statement = (
            "SELECT series, position, step, value, time "  # noqa: S608
            f"FROM (VALUES {tuples(3, some)}) CROSS JOIN points INDEXED BY ix_points_not_finite "
            f"WHERE series = column1 AND position >= column2 AND position < column3 AND ({NOT_FINITE}) "
            "ORDER BY series, position"
        )
        found += rows(session, statement, [value for stretch in some for value in stretch])
    return _with_series(found)


def _with_series(found: Sequence[Any]) -> tuple[Integers, Points]:
    return np.array([row[0] for row in found], np.int64), Points.of_rows([row[1:] for row in found])


def records(session: Session, series: int, level: int, start: int, stop: int) -> Records:
    """The rollups of a level from index `start` to before `stop`, or to the last one there is."""
    size = rollups.block(level)
    first = start // size
    found = rows(
        session,
        "SELECT data FROM rollups WHERE series = ? AND level = ? AND block BETWEEN ? AND ? ORDER BY block",
        (series, level, first, (stop - 1) // size),
    )
    skipped = first * size
    return rollups.unpacked(level, [data for (data,) in found])[start - skipped : stop - skipped]


def whole_levels(session: Session, wanted: Sequence[tuple[int, int]]) -> dict[int, Records]:
    """All rollups of one level of each of several series, given as (series, level): {series: records}."""
    blocks: list[tuple[int, int, bytes]] = []
    for some in parts(wanted):
        statement = f"SELECT series, block, data FROM rollups WHERE (series, level) IN (VALUES {tuples(2, some)})"  # noqa: S608
        blocks += rows(session, statement, [value for place in some for value in place])
    held: dict[int, list[bytes]] = {series: [] for series, _ in wanted}
    for series, _, data in sorted(blocks):  # here, as SQLite would copy the blocks once more to sort them
        held[series].append(data)
    return {series: rollups.unpacked(level, held[series]) for series, level in wanted}


def tails(session: Session, ends: Sequence[tuple[int, int]]) -> dict[int, dict[int, Records]]:
    """The blocks that the next point changes, for several (series, count): {series: {level: records}}."""
    wanted = [
        (series, level, rollups.tail_block(count, level))
        for series, count in ends
        if count
        for level in range(1, rollups.top(count) + 1)
    ]
    found: dict[int, dict[int, Records]] = {series: {} for series, _ in ends}
    for some in parts(wanted):
        statement = (
            "SELECT series, level, data FROM rollups "  # noqa: S608
            f"WHERE (series, level, block) IN (VALUES {tuples(3, some)})"
        )
        for series, level, data in rows(session, statement, [value for place in some for value in place]):
            found[series][level] = rollups.unpacked(level, [data])
    return found


def store_records(session: Session, renewed: Iterable[tuple[int, rollups.Renewed]]) -> None:
    """Writes blocks of several series, in the place of those that are there: (series, what `extend` returned) each."""
    write(
        session,
        STORE_BLOCK,
        [
            (series, level, block, data)
            for series, levels in renewed
            for level, (first, changed) in levels.items()
            for block, data in rollups.blocks(level, first, changed)
        ],
    )


def summary_row(
    series: int,
    whole: Record,
    first: tuple[float, int],
    last: tuple[float, int],
    min_step: int | None,
    max_step: int | None,
) -> tuple[Any, ...]:
    """The parameters of UPDATE_SERIES.

    whole: the curve as one record. first, last: value and step. min_step, max_step: None when no value is finite.
    """
    return (
        int(whole["count"]),
        sum(int(whole[kind]) for kind in rollups.NON_FINITE),
        nullable(first[0]),
        first[1],
        nullable(last[0]),
        last[1],
        None if min_step is None else float(whole["min"]),
        min_step,
        None if max_step is None else float(whole["max"]),
        max_step,
        series,
    )


def nullable(value: float) -> float | None:
    """What is stored for a value: NULL stands for NaN."""
    return None if math.isnan(value) else value

"""Reading a curve as few points, whatever its length: answered from rollups, and nothing that stands out is lost."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from sqlalchemy.orm import Session

from service.curves import rollups, stored
from service.curves.rollups import FANOUT, NON_FINITE, Floats, Integers, Records
from service.curves.spans import Span, cover, within_steps
from service.curves.stored import NO_POINTS, Points
from service.curves.summaries import Summary

OUTSTANDING = 4  # the first and the last point and the two extremes
WINDOW = 16_384  # points looked at together where every one must be
LOWEST_STEP, HIGHEST_STEP = -(2**63), 2**63 - 1


@dataclass(frozen=True, eq=False)
class Curve:
    """Points of a curve in order of logging: shape (m,) each.

    When `downsampled`, an entry of positive `weight` stands for a bucket with so many finite values: `value` is their
    mean, `min` and `max` are their extremes, `step` and `time` (seconds of active training) those of one of its
    points, in the middle as nearly as rollups tell. An entry of weight 0 is one point, shown although it lies in a
    bucket: the first and the last one, the two extremes, and what is not finite. Otherwise every entry is a point, of
    weight 1 if it is finite.
    `count` is the full number of points, whatever their values.
    """

    step: Integers
    time: Floats
    value: Floats
    min: Floats
    max: Floats
    weight: Integers
    count: int
    downsampled: bool

    @classmethod
    def empty(cls) -> Self:
        """A curve that has not begun."""
        return cls.of_points(NO_POINTS)

    @classmethod
    def of_points(cls, points: Points) -> Self:
        """Every point as it is."""
        _, steps, values, times = points
        weight = np.isfinite(values).astype(np.int64)
        return cls(steps, times, values, values, values, weight, len(steps), downsampled=False)


@dataclass(frozen=True, eq=False)
class _Survey:
    """What is known of the points in question without having them all in hand."""

    records: Records  # in order of position, more of them than points are asked for
    last: int  # the position of the last point
    non_finite: Points | None  # all of them, or None when they are too many to show each


def read(
    session: Session, summary: Summary, points: int = 1000, from_step: int | None = None, to_step: int | None = None
) -> Curve:
    """A curve, or its points with a step from `from_step` to `to_step`, both included, as at most about `points`.

    All points when there are no more than that. Otherwise buckets of about equally many points, among which the first
    and the last point, the global extremes and every non-finite value stand as points of their own. When more than
    half of `points` are not finite, each bucket shows each kind (NaN, inf, -inf) it holds once, at its middle.
    Never more than `points` entries from 10 on.
    """
    low = LOWEST_STEP if from_step is None else from_step
    high = HIGHEST_STEP if to_step is None else to_step
    everything = from_step is None and to_step is None
    spans = [(0, summary.count)] if everything else within_steps(session, summary, low, high)
    if spans is None:
        found = _scan(session, summary, points, low, high)
    elif sum(stop - start for start, stop in spans) <= points:
        found = Points.joined([stored.points(session, summary.series, *span) for span in spans])
    else:
        found = _survey(session, summary, points, spans)
    return Curve.of_points(found) if isinstance(found, Points) else _bucketed(session, summary, points, found)


def _survey(session: Session, summary: Summary, points: int, spans: list[Span]) -> _Survey:
    """From the highest level that has at least half as many records as points are asked for."""
    count = sum(stop - start for start, stop in spans)
    level, top = 0, rollups.top(summary.count)
    while level < top and 2 * count > points * rollups.size(level + 1):
        level += 1
    series = summary.series
    records = rollups.join([cover(session, series, summary.count, span, level) for span in spans])
    few = int(rollups.non_finite(records).sum()) <= points // 2
    shown = _non_finite(session, series, records, level) if few else None
    return _Survey(records, spans[-1][1] - 1, shown)


def _non_finite(session: Session, series: int, records: Records, level: int) -> Points:
    """The points that are not finite, opening only the records that count any."""
    asked = dirty = records[rollups.non_finite(records) > 0]
    for below in range(level - 1, 0, -1):
        inner = stored.records_at(session, series, below, _indexes(dirty, rollups.size(below)))
        dirty = inner[rollups.non_finite(inner) > 0]
    # A ragged end of a range is finer than the records opened for it: what lies beyond it was not asked for.
    positions = _indexes(dirty, 1)
    holders = asked[np.searchsorted(asked["position"], positions, "right") - 1]
    within = (positions >= holders["position"]) & (positions < holders["position"] + holders["count"])
    return stored.points_at(session, series, positions[within].tolist(), stored.NOT_FINITE)


def _indexes(records: Records, size: int) -> Integers:
    """Which stretches of `size` positions the records touch, rising."""
    first = records["position"] // size
    last = (records["position"] + records["count"] - 1) // size
    most = int((last - first).max(initial=-1)) + 1
    every = first[:, None] + np.arange(most)
    return np.unique(every[every <= last[:, None]])


def _scan(session: Session, summary: Summary, points: int, low: int, high: int) -> _Survey | Points:
    """Every point looked at, a window at a time: for steps in so little order that rollups do not tell them apart."""
    records, size = rollups.none(), 1
    last = count = 0
    first_few = shown = NO_POINTS
    for start in range(0, summary.count, WINDOW):
        window = stored.points(session, summary.series, start, min(start + WINDOW, summary.count))
        window = window.where((window.steps >= low) & (window.steps <= high))
        if len(window.positions) == 0:
            continue
        count, last = count + len(window.positions), int(window.positions[-1])
        first_few = Points.joined([first_few, window]).head(points)
        shown = Points.joined([shown, window.where(~np.isfinite(window.values))]).head(points // 2 + 1)
        fresh = rollups.of_points(*window)
        records = rollups.join([records, rollups.merge(fresh, rollups.groups(len(fresh), size))])
        if len(records) > 2 * FANOUT * points:
            records, size = rollups.merge(records, rollups.groups(len(records), 2)), size * 2
    if count <= points:
        return first_few
    return _Survey(records, last, shown if len(shown.positions) <= points // 2 else None)


def _bucketed(session: Session, summary: Summary, points: int, survey: _Survey) -> Curve:
    """Buckets of equally many points, as far as whole records allow, and what must be seen beside them."""
    records, shown = survey.records, survey.non_finite
    kinds = [kind for kind in NON_FINITE if records[kind].any()] if shown is None else []
    shown = NO_POINTS if shown is None else shown
    room = max(1, (points - OUTSTANDING - len(shown.positions)) // (1 + len(kinds)))

    total = records["count"].sum(dtype=np.int64)
    before = np.cumsum(records["count"], dtype=np.int64) - records["count"]
    starts = np.flatnonzero(np.diff(before * room // total, prepend=-1))
    stops = np.append(starts[1:], len(records))
    middles = (starts + stops) // 2
    lows = np.minimum.reduceat(records["min"], starts)
    highs = np.maximum.reduceat(records["max"], starts)
    means, weights = rollups.averages(records, starts, lows, highs)
    solid = np.flatnonzero(weights)

    own = Points.joined([stored.points_at(session, summary.series, _outstanding(survey)), shown])
    _, once = np.unique(own.positions, return_index=True)
    own = own.where(once)
    # A bucket of a single point is that point already.
    alone = (stops - starts == 1) & (records["count"][starts] == 1) & (weights > 0)
    own = own.where(~np.isin(own.positions, records["position"][starts[alone]]))

    averaged = _at(records, middles[solid], means[solid])
    samples = [_at(records, middles[np.add.reduceat(records[kind], starts) > 0], NON_FINITE[kind]) for kind in kinds]
    entries = Points.joined([averaged, own, *samples])
    beside = entries.values[len(solid) :]
    # Where a bucket shows at the place of a point: the first point stays first, and the last one last.
    turns = np.ones(len(entries.positions), np.int8)
    turns[len(solid) :][: len(own.positions)] = np.where(own.positions == survey.last, 2, 0)
    order = np.lexsort((turns, entries.positions))
    return Curve(
        step=entries.steps[order],
        time=entries.times[order],
        value=entries.values[order],
        min=np.concatenate([lows[solid], beside])[order],
        max=np.concatenate([highs[solid], beside])[order],
        weight=np.concatenate([weights[solid], np.zeros(len(beside), np.int64)])[order],
        count=int(total),
        downsampled=True,
    )


def _outstanding(survey: _Survey) -> list[int]:
    """Positions of the first and the last point, and of the extremes where a value is finite."""
    records = survey.records
    lowest, highest = records["min"].argmin(), records["max"].argmax()
    extremes = int(records["min_position"][lowest]), int(records["max_position"][highest])
    return [int(records["position"][0]), survey.last, *extremes]


def _at(records: Records, chosen: Integers, values: Floats | float) -> Points:
    """Points where the chosen records begin, with other values."""
    return Points(
        records["position"][chosen],
        records["first_step"][chosen],
        np.broadcast_to(values, len(chosen)),
        records["first_time"][chosen],
    )

"""Buckets: what a curve shows of its points when they are too many, with nothing lost that stands out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from service.curves import rollups, stored
from service.curves.rollups import NON_FINITE, Floats, Integers, Records, key
from service.curves.stored import NO_POINTS, Points

OUTSTANDING = 4  # the first and the last point and the two extremes


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

    @property
    def beside(self) -> NDArray[np.bool_]:
        """Shape (m,): which entries are single points beside the buckets. A line through them would be no mean."""
        single: NDArray[np.bool_] = self.weight == 0
        return single & self.downsampled


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of the points of one curve that are in question, without having them all in hand."""

    series: int
    records: Records  # in order of position, at least one
    last: int  # the position of the last point
    non_finite: Points | None  # all of them, or None when they are too many to show each

    def kinds(self) -> list[str]:
        """Of what is not finite, where each bucket is to show it once."""
        return [] if self.non_finite is not None else [kind for kind in NON_FINITE if self.records[kind].any()]

    def room(self, points: int) -> int:
        """How many buckets there may be, with all that is shown beside them, for so many points."""
        beside = OUTSTANDING + (0 if self.non_finite is None else len(self.non_finite.positions))
        return max(1, (points - beside) // (1 + len(self.kinds())))


def bucketed(session: Session, surveys: Sequence[Survey], points: int) -> list[Curve]:
    """Each as buckets of equally many points, as far as whole records allow, and what must be seen beside them.

    The curves are made together because the cost lies in the calls, not in the records.
    """
    records = rollups.join([survey.records for survey in surveys])
    lengths = np.array([len(survey.records) for survey in surveys])
    firsts = np.cumsum(lengths) - lengths
    curve = np.repeat(np.arange(len(surveys)), lengths)  # that a record belongs to
    counts = records["count"].astype(np.int64)
    totals = np.add.reduceat(counts, firsts)
    before = np.cumsum(counts) - counts
    before -= before[firsts][curve]
    room = np.array([survey.room(points) for survey in surveys])

    fresh = np.diff(before * room[curve] // totals[curve], prepend=-1) != 0
    fresh[firsts] = True
    starts = np.flatnonzero(fresh)
    stops = np.append(starts[1:], len(records))
    lows = np.minimum.reduceat(records["min"], starts)
    highs = np.maximum.reduceat(records["max"], starts)
    means, weights = rollups.averages(records, starts, lows, highs)
    solid = np.flatnonzero(weights)
    middles = (starts + stops) // 2
    averaged = _at(records, middles[solid], means[solid])

    own, own_curve = _own(session, surveys)
    # A bucket of a single point is that point already.
    alone = starts[(stops - starts == 1) & (counts[starts] == 1) & (weights > 0)]
    if len(alone):
        shown = np.isin(key(own_curve, own.positions), key(curve[alone], records["position"][alone]))
        own, own_curve = own.where(~shown), own_curve[~shown]
    samples, samples_curve = _samples(surveys, curve, records, starts, middles)

    entries = Points.joined([averaged, own, *samples])
    curves = np.concatenate([curve[starts[solid]], own_curve, *samples_curve])
    beside = entries.values[len(solid) :]
    # Where a bucket shows at the place of a point: the first point stays first, and the last one last.
    turns = np.ones(len(curves), np.int64)
    last = np.array([survey.last for survey in surveys])
    turns[len(solid) :][: len(own_curve)] = np.where(own.positions == last[own_curve], 2, 0)
    order = np.argsort(key(curves, entries.positions) * 4 + turns, kind="stable")
    shares = np.concatenate([weights[solid], np.zeros(len(beside), np.int64)])[order]
    low = np.concatenate([lows[solid], beside])[order]
    high = np.concatenate([highs[solid], beside])[order]
    _, steps, values, times = entries.where(order)
    ends = np.cumsum(np.bincount(curves, minlength=len(surveys))).tolist()
    spans = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return [
        Curve(steps[its], times[its], values[its], low[its], high[its], shares[its], count, downsampled=True)
        for its, count in zip(spans, totals.tolist(), strict=True)
    ]


def _own(session: Session, surveys: Sequence[Survey]) -> tuple[Points, Integers]:
    """The points that are shown as they are, each once, and the curves that they belong to."""
    wanted = [(survey.series, position) for survey in surveys for position in sorted(set(_outstanding(survey)))]
    series, found = stored.points_of(session, wanted)
    place = {survey.series: number for number, survey in enumerate(surveys)}
    parts = [found] + [survey.non_finite for survey in surveys if survey.non_finite is not None]
    belong = [np.array([place[each] for each in series], np.int64)]
    belong += [
        np.full(len(survey.non_finite.positions), number)
        for number, survey in enumerate(surveys)
        if survey.non_finite is not None
    ]
    every, curve = Points.joined(parts), np.concatenate(belong)
    _, once = np.unique(key(curve, every.positions), return_index=True)
    return every.where(once), curve[once]


def _outstanding(survey: Survey) -> list[int]:
    """Positions of the first and the last point, and of the extremes where a value is finite."""
    records = survey.records
    lowest, highest = records["min"].argmin(), records["max"].argmax()
    extremes = int(records["min_position"][lowest]), int(records["max_position"][highest])
    return [int(records["position"][0]), survey.last, *extremes]


def _samples(
    surveys: Sequence[Survey], curve: Integers, records: Records, starts: Integers, middles: Integers
) -> tuple[list[Points], list[Integers]]:
    """What is not finite and too much to show each: of each kind one where a bucket holds any; and their curves."""
    crowded = np.array([survey.non_finite is None for survey in surveys])
    if not crowded.any():
        return [], []
    here = crowded[curve[starts]]
    held = {kind: middles[here & (np.add.reduceat(records[kind], starts) > 0)] for kind in NON_FINITE}
    return [_at(records, at, NON_FINITE[kind]) for kind, at in held.items()], [curve[at] for at in held.values()]


def _at(records: Records, chosen: Integers, values: Floats | float) -> Points:
    """Points where the chosen records begin, with other values."""
    return Points(
        records["position"][chosen],
        records["first_step"][chosen],
        np.broadcast_to(values, len(chosen)),
        records["first_time"][chosen],
    )

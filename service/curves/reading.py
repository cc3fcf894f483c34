"""Reading curves as few points, whatever their length: answered from rollups, and nothing that stands out is lost."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from service.curves import rollups, stored
from service.curves.buckets import Curve, Survey, bucketed
from service.curves.rollups import FANOUT, Integers, Records
from service.curves.spans import Span, cover, within_steps
from service.curves.stored import NO_POINTS, Points
from service.curves.summaries import Summary

WINDOW = 16_384  # points looked at together where every one must be
LOWEST_STEP, HIGHEST_STEP = -(2**63), 2**63 - 1


def read(
    session: Session, summary: Summary, points: int = 1000, from_step: int | None = None, to_step: int | None = None
) -> Curve:
    """A curve, or its points with a step from `from_step` to `to_step`, both included, as at most about `points`.

    All points when there are no more than that. Otherwise buckets of about equally many points, among which the first
    and the last point, the global extremes and every non-finite value stand as points of their own. When more than
    half of `points` are not finite, each bucket shows each kind (NaN, inf, -inf) it holds once, at its middle.
    Never more than `points` entries from 10 on.
    """
    if from_step is None and to_step is None:
        return read_all(session, [summary], points)[0]
    low = LOWEST_STEP if from_step is None else from_step
    high = HIGHEST_STEP if to_step is None else to_step
    spans = within_steps(session, summary, low, high)
    if spans is None:
        found = _scan(session, summary, points, low, high)
    elif sum(stop - start for start, stop in spans) <= points:
        found = Points.joined([stored.points(session, summary.series, *span) for span in spans])
    else:
        found = _survey(session, summary, points, spans)
    return Curve.of_points(found) if isinstance(found, Points) else bucketed(session, [found], points)[0]


def read_all(session: Session, summaries: Sequence[Summary], points: int = 1000) -> list[Curve]:
    """Several whole curves, each as `read` gives it, in the order of the summaries: in a few statements together."""
    long = [summary for summary in summaries if summary.count > points]
    levels = [_level(summary, summary.count, points) for summary in long]
    stored_ones = [(summary.series, level) for summary, level in zip(long, levels, strict=True) if level]
    records = stored.whole_levels(session, stored_ones)
    surveys = []
    for summary, level in zip(long, levels, strict=True):
        held = (
            records[summary.series] if level else cover(session, summary.series, summary.count, (0, summary.count), 0)
        )
        surveys.append(_surveyed(session, summary.series, level, held, summary.count - 1, points))
    curves = iter(bucketed(session, surveys, points) if surveys else ())
    return [
        next(curves)
        if summary.count > points
        else Curve.of_points(stored.points(session, summary.series, 0, summary.count))
        for summary in summaries
    ]


def _survey(session: Session, summary: Summary, points: int, spans: list[Span]) -> Survey:
    count = sum(stop - start for start, stop in spans)
    level, series = _level(summary, count, points), summary.series
    records = rollups.join([cover(session, series, summary.count, span, level) for span in spans])
    return _surveyed(session, series, level, records, spans[-1][1] - 1, points)


def _level(summary: Summary, count: int, points: int) -> int:
    """The highest level that has at least half as many records of `count` points as are asked for."""
    level, top = 0, rollups.top(summary.count)
    while level < top and 2 * count > points * rollups.size(level + 1):
        level += 1
    return level


def _surveyed(session: Session, series: int, level: int, records: Records, last: int, points: int) -> Survey:
    """With the points that are not finite, if they are few enough to show each."""
    odd = int(rollups.non_finite(records).sum())
    shown = NO_POINTS if odd == 0 else _non_finite(session, series, records, level) if odd <= points // 2 else None
    return Survey(series, records, last, shown)


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


def _scan(session: Session, summary: Summary, points: int, low: int, high: int) -> Survey | Points:
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
    return Survey(summary.series, records, last, shown if len(shown.positions) <= points // 2 else None)

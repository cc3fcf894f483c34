"""Reading curves as few points, whatever their length: answered from rollups, and nothing that stands out is lost."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from service.curves import rollups, stored
from service.curves.buckets import Curve, Survey, bucketed
from service.curves.rollups import FANOUT, Records
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
    held = [
        records[summary.series] if level else cover(session, summary.series, summary.count, (0, summary.count), 0)
        for summary, level in zip(long, levels, strict=True)
    ]
    shown = _not_finite(
        session, [(each.series, its, [(0, each.count)]) for each, its in zip(long, held, strict=True)], points
    )
    surveys = [Survey(each.series, its, each.count - 1, odd) for each, its, odd in zip(long, held, shown, strict=True)]
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
    [shown] = _not_finite(session, [(series, records, spans)], points)
    return Survey(series, records, spans[-1][1] - 1, shown)


def _not_finite(
    session: Session, surveyed: Sequence[tuple[int, Records, list[Span]]], points: int
) -> list[Points | None]:
    """All points of each that are NaN or infinite; None where they are more than half of `points`.

    surveyed: of each curve its series, and the records that stand for these spans of it.
    """
    counts = [int(rollups.non_finite(records).sum()) for _, records, _ in surveyed]
    few = [
        (series, *span)
        for (series, _, spans), count in zip(surveyed, counts, strict=True)
        if 0 < count <= points // 2
        for span in spans
    ]
    belong, found = stored.not_finite(session, few)
    return [
        found.where(belong == series) if count <= points // 2 else None
        for (series, _, _), count in zip(surveyed, counts, strict=True)
    ]


def _level(summary: Summary, count: int, points: int) -> int:
    """The highest level that has at least half as many records of `count` points as are asked for."""
    level, top = 0, rollups.top(summary.count)
    while level < top and 2 * count > points * rollups.size(level + 1):
        level += 1
    return level


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

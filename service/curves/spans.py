"""Stretches of positions: where the steps of a range lie, and which rollups cover a stretch."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from service.curves import rollups, stored
from service.curves.rollups import FANOUT, FIRST, Records
from service.curves.summaries import Summary

Span = tuple[int, int]  # positions from the first to before the second

MOST = 64  # beyond so many stretches, looking at every point is quicker


def within_steps(session: Session, summary: Summary, low: int, high: int) -> list[Span] | None:
    """Where the points with a step from `low` to `high` lie, in order; None when they are too scattered.

    Whatever the order of the steps: whole rollups are taken or left by their lowest and highest step, and only those
    across a border are opened. For steps that never fall, there are at most two of these at each level.
    """
    top = rollups.top(summary.count)
    found: list[Span] = []
    opened = [(0, rollups.length(summary.count, top))]
    for level in range(top, -1, -1):
        parts = [_records(session, summary.series, level, start, stop) for start, stop in opened]
        records = rollups.join(parts)
        inside = (records["low_step"] >= low) & (records["high_step"] <= high)
        outside = (records["low_step"] > high) | (records["high_step"] < low)
        found += ranges(records[inside])
        across = records[~inside & ~outside]["position"] // rollups.size(level)
        if len(across) > MOST:
            return None
        below = FANOUT if level > 1 else FIRST
        opened = [(index * below, (index + 1) * below) for index in across.tolist()]
        if not opened:
            break
    joined = coalesced(sorted(found))
    return joined if len(joined) <= MOST else None


def cover(session: Session, series: int, count: int, span: Span, level: int) -> Records:
    """Records that stand for exactly this span: of `level` inside, of lower ones and points at ragged ends.

    count: the points of the whole curve, whose last record of each level is whole although it is short.
    """
    start, stop = span
    if level == 0:
        return _records(session, series, 0, start, stop)
    size = rollups.size(level)
    first = -(-start // size)
    last = -(-stop // size) if stop == count else stop // size
    if first >= last:
        return cover(session, series, count, span, level - 1)
    parts = [stored.records(session, series, level, first, last)]
    if start < first * size:
        parts.insert(0, cover(session, series, count, (start, first * size), level - 1))
    if last * size < stop:
        parts.append(cover(session, series, count, (last * size, stop), level - 1))
    return rollups.join(parts)


def ranges(records: Records) -> list[Span]:
    """The spans that records of contiguous points stand for, neighbours joined."""
    starts = records["position"]
    return coalesced(zip(starts.tolist(), (starts + records["count"]).tolist(), strict=True))


def coalesced(spans: Iterable[Span]) -> list[Span]:
    """The same positions in as few spans as possible; in order, as the given ones are."""
    joined: list[Span] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _records(session: Session, series: int, level: int, start: int, stop: int) -> Records:
    """Of level 0, that is one for each point, or of a stored level."""
    if level:
        return stored.records(session, series, level, start, stop)
    return rollups.of_points(*stored.points(session, series, start, stop))

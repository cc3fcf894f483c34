"""Cutting the curves of a run back to a step: what a resumed run logs again must not stand there twice."""

import numpy as np
from sqlalchemy.orm import Session

from service.curves import rollups, stored
from service.curves.rollups import FANOUT, FIRST
from service.curves.summaries import Summary, find
from service.driver import write


def cut(session: Session, run_seq: int, step: int) -> None:
    """Cuts every curve of a run back to the points before the first one, in order of logging, beyond `step`."""
    for summary in find(session, [run_seq]).get(run_seq, {}).values():
        cut_one(session, summary, first_beyond(session, summary, step))


def cut_one(session: Session, summary: Summary, count: int) -> None:
    """Cuts one curve back to its first `count` points."""
    if count == 0:
        _remove(session, summary.series)
    elif count < summary.count:
        _shorten(session, summary, count)


def first_beyond(session: Session, summary: Summary, step: int) -> int:
    """The first position whose step is larger than `step`, or the count."""
    top = rollups.top(summary.count)
    start, stop = 0, rollups.length(summary.count, top)
    for level in range(top, 0, -1):
        records = stored.records(session, summary.series, level, start, stop)
        beyond = np.flatnonzero(records["high_step"] > step)
        if len(beyond) == 0:
            return summary.count
        below = FANOUT if level > 1 else FIRST
        start = (start + int(beyond[0])) * below
        stop = start + below
    points = stored.points(session, summary.series, start, stop)
    return start + int(np.argmax(points.steps > step))


def _remove(session: Session, series: int) -> None:
    write(session, "DELETE FROM points WHERE series = ?", [(series,)])
    write(session, "DELETE FROM rollups WHERE series = ?", [(series,)])
    write(session, "DELETE FROM series WHERE id = ?", [(series,)])


def _shorten(session: Session, summary: Summary, count: int) -> None:
    """Keeps the first `count` points, at least one: whole records stay, the last of each level are made anew."""
    series = summary.series
    whole = count // FIRST * FIRST
    tails = stored.tails(session, [(series, whole)])[series]
    rest = stored.points(session, series, whole, count)
    [renewed] = rollups.extend([rollups.Growth(whole, tails, rollups.of_points(*rest))])
    write(session, "DELETE FROM points WHERE series = ? AND position >= ?", [(series, count)])
    write(session, "DELETE FROM rollups WHERE series = ? AND level > ?", [(series, max(renewed))])
    write(
        session,
        "DELETE FROM rollups WHERE series = ? AND level = ? AND block >= ?",
        [(series, level, block) for level, (block, _) in renewed.items()],
    )
    stored.store_records(session, [(series, renewed)])
    _summarise(session, summary, rollups.whole([renewed])[0])


def _summarise(session: Session, before: Summary, whole: rollups.Record) -> None:
    end, lowest, highest = (int(whole["count"]) - 1, int(whole["min_position"]), int(whole["max_position"]))
    kept = stored.points_at(session, before.series, [0, end, lowest, highest])
    places = kept.positions.tolist()
    steps = dict(zip(places, kept.steps.tolist(), strict=True))
    values = dict(zip(places, kept.values.tolist(), strict=True))
    first, last = (values[0], steps[0]), (values[end], steps[end])
    row = stored.summary_row(before.series, whole, first, last, steps.get(lowest), steps.get(highest))
    write(session, stored.UPDATE_SERIES, [row])

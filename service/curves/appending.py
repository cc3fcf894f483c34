"""Adding points to the ends of curves: points, rollups and summaries together."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from service.curves import rollups, stored
from service.curves.rollups import Floats, Integers
from service.curves.statements import insert
from service.curves.summaries import Summary, direction, find
from service.driver import write
from service.errors import ServiceError

INSERT_SERIES = "INSERT INTO series (run, name, direction, count, non_finite) VALUES (?, ?, ?, 0, 0)"


class PositionMismatch(ServiceError):
    """An append that does not begin where the curve ends: a stale writer, or a bug. Nothing was written."""

    def __init__(self, metric: str, expected: int, count: int) -> None:
        super().__init__(f"points for {metric} begin at position {expected}, but the curve holds {count}")
        self.metric, self.expected, self.count = metric, expected, count


@dataclass(frozen=True, eq=False)
class Batch:
    """New points of one metric, in order of logging; `position` is where the writer believes the curve ends.

    steps, values, times: shape (n,) each; times in seconds of active training, of which four places are kept.
    Values may be NaN or infinite.
    """

    metric: str
    position: int
    steps: Integers
    values: Floats
    times: Floats


def append(
    session: Session, run_seq: int, metric: str, expected_position: int, steps: Integers, values: Floats, times: Floats
) -> None:
    """Adds points to the end of one curve: `append_all` with a single batch."""
    append_all(session, run_seq, [Batch(metric, expected_position, steps, values, times)])


def append_all(session: Session, run_seq: int, batches: Iterable[Batch]) -> None:
    """Adds points to the ends of several curves of a run, each named once, in a few statements however many they are.

    A curve that is not there yet begins. Raises PositionMismatch, and has then written nothing.
    """
    batches = [batch for batch in batches if len(batch.steps)]
    if not batches:
        return
    before = _begun(session, run_seq, batches)
    series = [before[batch.metric].series for batch in batches]
    tails = stored.tails(session, [(each, batch.position) for each, batch in zip(series, batches, strict=True)])
    points = stored.Points.joined(
        stored.Points(
            np.arange(batch.position, batch.position + len(batch.steps)),
            batch.steps,
            batch.values,
            stored.rounded(batch.times),
        )
        for batch in batches
    )
    records = rollups.of_points(*points)
    lengths = [len(batch.steps) for batch in batches]
    ends = np.cumsum(lengths).tolist()
    renewed = rollups.extend(
        [
            rollups.Growth(batch.position, tails[each], records[end - length : end])
            for each, batch, length, end in zip(series, batches, lengths, ends, strict=True)
        ]
    )
    insert(
        session, f"points (series, {stored.COLUMNS})", [np.repeat(series, lengths).tolist(), *stored.as_columns(points)]
    )
    stored.store_records(session, zip(series, renewed, strict=True))
    write(
        session,
        stored.UPDATE_SERIES,
        [
            _summary_row(before[batch.metric], batch, whole)
            for batch, whole in zip(batches, rollups.whole(renewed), strict=True)
        ],
    )


def _begun(session: Session, run_seq: int, batches: list[Batch]) -> dict[str, Summary]:
    """The series that the batches continue, by metric, after a check of their positions."""
    metrics = [batch.metric for batch in batches]
    found = find(session, [run_seq], metrics).get(run_seq, {})
    for batch in batches:
        count = found[batch.metric].count if batch.metric in found else 0
        if count != batch.position:
            raise PositionMismatch(batch.metric, batch.position, count)
    new = [metric for metric in metrics if metric not in found]
    write(session, INSERT_SERIES, [(run_seq, metric, direction(metric).value) for metric in new])
    return found | find(session, [run_seq], new).get(run_seq, {})


def _summary_row(before: Summary, batch: Batch, whole: rollups.Record) -> tuple[Any, ...]:
    def extreme_step(name: str, earlier: int | None) -> int | None:
        position = int(whole[f"{name}_position"])
        within = batch.position <= position < rollups.NOWHERE
        return int(batch.steps[position - batch.position]) if within else earlier

    first = (float(batch.values[0]), int(batch.steps[0]))
    if before.first is not None and before.first_step is not None:
        first = (before.first, before.first_step)
    last = (float(batch.values[-1]), int(batch.steps[-1]))
    extremes = extreme_step("min", before.min_step), extreme_step("max", before.max_step)
    return stored.summary_row(before.series, whole, first, last, *extremes)

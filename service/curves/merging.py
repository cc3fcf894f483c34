"""Points that come in any order, and perhaps again: each step of a curve stands there once, and the steps rise."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from service.curves import stored
from service.curves.appending import Batch, append_all
from service.curves.cutting import cut_one, first_beyond
from service.curves.rollups import Floats, Integers
from service.curves.stored import Points
from service.curves.summaries import Summary, find
from service.errors import FieldProblem, InvalidInput

# So many points behind the first one that is not in order are written anew: half a second's work.
FARTHEST_BACK = 100_000


@dataclass(frozen=True, eq=False)
class Logged:
    """Points of one metric as somebody logged them: shape (n,) each, times in seconds."""

    metric: str
    steps: Integers
    values: Floats
    times: Floats


def merge(session: Session, run_seq: int, logged: Iterable[Logged]) -> None:
    """Adds points to curves whose steps rise, each metric named once. Of points with the same step the last one stays.

    So it makes no difference whether the same points are merged once or again. What is there already, as it is, costs
    a read; what comes in order, an append. Raises InvalidInput for steps too far behind the end of a long curve.
    """
    arriving = [_in_order(each) for each in logged]
    found = find(session, [run_seq], [each.metric for each in arriving]).get(run_seq, {})
    batches = []
    for each in arriving:
        summary = found.get(each.metric)
        batch = Batch(each.metric, 0, each.steps, each.values, each.times)
        if summary is not None:
            batch = _behind(session, summary, each)
        batches.append(batch)
    append_all(session, run_seq, batches)


def _in_order(logged: Logged) -> Logged:
    """By step; of several at a step, the one that was logged last."""
    order = np.argsort(logged.steps, kind="stable")
    steps = logged.steps[order]
    kept = order[np.append(steps[1:] != steps[:-1], True)]
    return Logged(logged.metric, logged.steps[kept], logged.values[kept], logged.times[kept])


def _behind(session: Session, summary: Summary, logged: Logged) -> Batch:
    """What is to be appended after the curve was cut back to the first point that changes."""
    start = summary.count
    if summary.last_step is not None and logged.steps[0] <= summary.last_step:
        start = first_beyond(session, summary, int(logged.steps[0]) - 1)
    if summary.count - start > FARTHEST_BACK:
        message = f"{summary.metric} goes on for more than {FARTHEST_BACK} points behind step {logged.steps[0]}"
        raise InvalidInput([FieldProblem("points", "too_far_back", message)])
    there = stored.points(session, summary.series, start, summary.count)
    steps = np.concatenate([there.steps, logged.steps])
    # Stable, so that of two points at a step the new one comes second, and stays.
    order = np.argsort(steps, kind="stable")
    kept = order[np.append(np.diff(steps[order]) != 0, True)]
    merged = Points(
        np.arange(start, start + len(kept)),
        steps[kept],
        np.concatenate([there.values, logged.values])[kept],
        np.concatenate([there.times, logged.times])[kept],
    )
    same = _unchanged(there, merged)
    cut_one(session, summary, start + same)
    rest = merged.where(np.arange(same, len(kept)))
    return Batch(summary.metric, start + same, rest.steps, rest.values, rest.times)


def _unchanged(there: Points, merged: Points) -> int:
    """How many points at the beginning have stayed as they are; a time that was told again does not count."""
    count = len(there.steps)
    alike = (there.steps == merged.steps[:count]) & (
        (there.values == merged.values[:count]) | (np.isnan(there.values) & np.isnan(merged.values[:count]))
    )
    return count if alike.all() else int(np.argmin(alike))

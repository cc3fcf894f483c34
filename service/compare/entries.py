"""One run of a comparison, and what its curve comes to."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.curves import Axis, Curve, Summary
from service.curves.rollups import Floats, Integers
from service.states import Direction

TAIL = 0.1  # share of the points whose mean is the tail mean


@dataclass(frozen=True, eq=False)
class Entry:
    """One run of a comparison.

    parameters: flat, with dotted names. metrics: all that the run has logged.
    summary, curve, x: of the compared metric, None when the run does not have it; the curve as `curves.read` gives it,
    x the coordinates of its points, shape (m,). axes: the coordinates of the same points along every axis that the run
    has. drawn: a coarser curve and its coordinates that are to be shown in place of these; nothing is judged by them.
    """

    run_id: str
    name: str
    parameters: Mapping[str, Any]
    metrics: Collection[str]
    summary: Summary | None = None
    curve: Curve | None = None
    x: Integers | Floats | None = None
    running: bool = False
    axes: Mapping[Axis, Integers | Floats] | None = None
    drawn: tuple[Curve, Integers | Floats] | None = None

    @property
    def shown(self) -> tuple[Curve | None, Integers | Floats | None]:
        return self.drawn or (self.curve, self.x)

    @property
    def best(self) -> float | None:
        return None if self.summary is None else self.summary.best


@dataclass(frozen=True)
class Outcome:
    """What a curve comes to, in the units of the metric and, for `best_at` and `to_target`, of x.

    last and best are exact, whatever was read of the curve. best_at is where the curve has its best value, None when
    that point was not read. tail_mean is the mean over the last tenth of the finite points, at least one, in whole
    buckets. area is the mean height: the area under the curve by the trapezoidal rule, divided by its length along x.
    to_target is the first x at which the curve, or the extreme of a bucket, reaches the target; None for never.
    reached is the same along every axis that the run has.
    """

    last: float | None
    best: float | None
    best_at: float | None
    tail_mean: float | None
    area: float | None
    to_target: float | None
    reached: dict[str, float] | None


def outcome(entry: Entry, better: Direction, target: float | None) -> Outcome | None:
    """The summary of one run, None when it has not logged the metric."""
    summary, curve, x = entry.summary, entry.curve, entry.x
    if summary is None or curve is None or x is None:
        return None
    at_best = (curve.step == summary.best_step) & ((curve.min == summary.best) | (curve.max == summary.best))
    met = None if target is None else reached(curve, better, target)
    return Outcome(
        last=summary.last,
        best=summary.best,
        best_at=_at(x, _first(at_best)),
        tail_mean=tail_mean(curve),
        area=mean_height(x[curve.weight > 0], curve.value[curve.weight > 0]),
        to_target=_at(x, met),
        reached=None if met is None else {axis.value: each[met].item() for axis, each in (entry.axes or {}).items()},
    )


def tail_mean(curve: Curve) -> float | None:
    """The mean of the last tenth of the finite points, at least one, rounded up to whole buckets."""
    total = int(curve.weight.sum())
    if total == 0:
        return None
    behind = total - np.cumsum(curve.weight)
    weight = np.where(behind < max(1.0, TAIL * total), curve.weight, 0)
    tail = weight > 0
    return float((curve.value[tail] * (weight[tail] / weight.sum())).sum())


def mean_height(x: Integers | Floats, y: Floats) -> float | None:
    """The area under y by the trapezoidal rule over the length of x: shape (n,) both; y finite, x in any order."""
    if len(x) == 0:
        return None
    order = np.argsort(x, kind="stable")
    x, y = x[order].astype(np.float64), y[order]
    length = x[-1] - x[0]
    if length == 0:
        return float((y / len(y)).sum())
    gaps = np.diff(x) / length
    # Summed as shares of each value, the largest numbers do not overflow.
    return float((y[:-1] * (gaps / 2)).sum() + (y[1:] * (gaps / 2)).sum())


def reached(curve: Curve, better: Direction, target: float) -> int | None:
    """Which point of the curve, or bucket of points, is the first at the target or past it; None for a metric without a
    direction too.
    """
    if better is Direction.MIN:
        return _first(np.isfinite(curve.min) & (curve.min <= target))
    if better is Direction.MAX:
        return _first(np.isfinite(curve.max) & (curve.max >= target))
    return None


def _first(mask: Any) -> int | None:
    places = np.flatnonzero(mask)
    return int(places[0]) if len(places) else None


def _at(x: Integers | Floats, place: int | None) -> float | None:
    return None if place is None else x[place].item()

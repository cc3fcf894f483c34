"""What a curve does on the whole, as a few numbers that its noise hardly moves."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from service.curves import Curve
from service.curves.rollups import Floats, Integers

BINS = 20
TAIL = 2  # bins at the end that stand for where the curve is now
HEAD = 5  # points that the beginning is averaged over
NORMAL_MEDIAN = 0.6745  # of the absolute value of a normal number with deviation 1


@dataclass(frozen=True, eq=False)
class Signal:
    """One curve as it is read, thinned or not: `curves.read` with some hundred points is enough.

    head: the first few values as they were logged, where the curve is thinned: shape (n,).
    """

    metric: str
    curve: Curve
    head: Floats | None = None

    @property
    def count(self) -> int:
        return self.curve.count

    @cached_property
    def odd_step(self) -> int | None:
        """The first step whose value is not finite."""
        odd = np.flatnonzero(~np.isfinite(self.curve.value))
        return int(self.curve.step[odd[0]]) if len(odd) else None

    @cached_property
    def odd_word(self) -> str:
        value = self.curve.value[~np.isfinite(self.curve.value)][0]
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"

    @cached_property
    def start(self) -> float:
        """Where the curve began: the mean of the first finite value and of those among the next few that are near it.

        One batch alone is a noisy witness, and where a loss explodes at once, the values behind the first are none.
        """
        values = self.curve.value if self.head is None else self.head
        values = values[np.isfinite(values)][:HEAD]
        return float(values[np.abs(values - values[0]) <= 0.5 * abs(values[0])].mean())

    @cached_property
    def _bins(self) -> tuple[Floats, Integers]:
        """Means over stretches of about equally many points, and the step at which each begins: shape (m,) each."""
        counted = self.curve.weight > 0
        weights, values, steps = self.curve.weight[counted], self.curve.value[counted], self.curve.step[counted]
        before = np.cumsum(weights) - weights
        places = before * min(BINS, len(weights)) // max(1, int(weights.sum()))
        starts = np.flatnonzero(np.diff(places, prepend=-1))
        if len(starts) == 0:
            return np.empty(0), np.empty(0, np.int64)
        shares = np.add.reduceat(weights, starts)
        lengths = np.diff(np.append(starts, len(weights)))
        means = np.add.reduceat(values * (weights / np.repeat(shares, lengths)), starts)
        return means, steps[starts]

    @property
    def level(self) -> Floats:
        """The curve without its noise: shape (m,), m at most 20."""
        return self._bins[0]

    @property
    def steps(self) -> Integers:
        """The step at which each level begins: shape (m,)."""
        return self._bins[1]

    @property
    def last_step(self) -> int:
        return int(self.curve.step[-1])

    @cached_property
    def tail(self) -> float:
        """Where the curve is now: the mean of its last tenth."""
        return float(self.level[-TAIL:].mean())

    @cached_property
    def peak(self) -> tuple[float, int]:
        """The highest single value, and its step."""
        finite = np.where(np.isfinite(self.curve.max), self.curve.max, -np.inf)
        place = int(finite.argmax())
        return float(finite[place]), int(self.curve.step[place])

    @cached_property
    def bottom(self) -> float:
        """The lowest single value, as the summaries of other runs have it."""
        return float(self.curve.min[np.isfinite(self.curve.min)].min())

    @cached_property
    def lowest(self) -> tuple[float, int]:
        """The lowest level, of bins averaged in threes so that one lucky stretch does not count, and its step."""
        smoothed = smoothed_level(self.level)
        place = int(smoothed.argmin())
        return float(smoothed[place]), int(self.steps[place])

    @cached_property
    def share_at_end(self) -> float:
        """The share of the fall that came in the last third: a third on a straight line, 0 where nothing fell."""
        fall = self.start - self.tail
        if fall <= 0:
            return 0.0
        middle = len(self.level) * 2 // 3
        return float((self.level[max(0, middle - 1) : middle + 1].mean() - self.tail) / fall)

    @cached_property
    def noise(self) -> float:
        """The deviation of a level if the curve's values were scattered independently, from neighbouring values."""
        values = self.curve.value[self.curve.weight > 0]
        if len(values) < 3:
            return 0.0
        single = float(np.median(np.abs(np.diff(values)))) / (NORMAL_MEDIAN * math.sqrt(2))
        return single / math.sqrt(len(values) / len(self.level))

    @cached_property
    def roughness(self) -> float:
        """How far neighbouring levels lie off a smooth line: the median of their second differences."""
        if len(self.level) < 3:
            return 0.0
        return float(np.median(np.abs(np.diff(self.level, 2))))

    def since(self, step: int) -> float:
        """Where the curve mostly is from a step on: the median level, on which a burst of some steps has no part."""
        return float(np.median(self.level[min(int(np.searchsorted(self.steps, step)), len(self.level) - 1) :]))

    def at(self, step: int) -> float:
        """The level around a step."""
        return float(self.level[max(0, int(np.searchsorted(self.steps, step, "right")) - 1)])


def smoothed_level(level: Floats) -> Floats:
    """Each level averaged with its neighbours: shape (m,) in and out."""
    if len(level) < 3:
        return level
    padded = np.concatenate([level[:1], level, level[-1:]])
    averaged: NDArray[np.float64] = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return averaged

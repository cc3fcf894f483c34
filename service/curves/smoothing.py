"""Smoothing: what a noisy curve does on average. Arrays in, arrays out."""

import numpy as np
from numpy.typing import NDArray

from service.curves.rollups import Floats


def smooth(values: Floats, weight: float, counted: NDArray[np.bool_] | None = None) -> Floats:
    """Exponential moving average, debiased as in Adam (Kingma & Ba 2015, section 3).

    values: shape (n,); non-finite entries are passed through and leave the average alone.
    weight: in [0, 1); 0 returns the values unchanged.
    counted: shape (n,); where False a finite entry leaves the average alone too, and shows it (the points that a
    `Curve` shows beside its buckets are in the average already).
    Takes about 0.2 ms for 10,000 values: a doubling window instead of a loop over the entries.
    """
    if not 0 <= weight < 1:
        raise ValueError("weight must be at least 0 and below 1")
    finite = np.isfinite(values)
    taken = finite if counted is None else finite & counted
    if weight == 0 or not taken.any():
        return values
    average = values[taken] * (1 - weight)
    # After each round an entry sums twice as many of those before it, each weighted by its distance.
    distance, decay = 1, weight
    while distance < len(average) and decay > 0:
        average[distance:] += decay * average[:-distance]
        distance, decay = 2 * distance, decay * decay
    average /= -np.expm1(np.log(weight) * np.arange(1, len(average) + 1))

    smoothed = values.copy()
    seen = np.cumsum(taken)
    shown = finite & (seen > 0)
    smoothed[shown] = average[seen[shown] - 1]
    return smoothed

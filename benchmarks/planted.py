"""A loss curve with spikes that a reader must see, the same for everyone who records it."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

METRICS = ("train_loss", "learning_rate", "grad_norm")
SPIKES = tuple(float(100 + number) for number in range(20))

Values = NDArray[np.float64]


def curve(count: int) -> Values:
    """Shape (count,): a loss that falls, with noise, and each of SPIKES at some step of its own."""
    random = np.random.default_rng(count)
    values = random.normal(1 / np.sqrt(np.arange(1, count + 1)), 0.01)
    values[random.choice(count, len(SPIKES), replace=False)] = SPIKES
    return values


def kept(values: Iterable[object]) -> int:
    """How many of the spikes are among the values."""
    return len(set(SPIKES).intersection(value for value in values if isinstance(value, float)))

"""Learning rates as other published rules suggest them, from one curve of loss against rate. Arrays in, results out."""

import numpy as np

from service.studies.stability import Floats


def suggested(rates: Floats, level: Floats) -> dict[str, float | None]:
    """What other rules suggest from the same curve of loss against rate; None where they find nothing.

    steepest: where the loss falls fastest against the logarithm of the rate (Smith 2017, section 3.3, as fastai reads
    it). valley: two thirds through the longest fall. tenth: a tenth of the rate with the lowest loss.
    """
    finite = np.isfinite(level)
    if finite.sum() < 3:
        return {"steepest": None, "valley": None, "tenth": None}
    x, y = rates[finite], level[finite]
    slope = np.gradient(y, np.log(x))
    return {
        "steepest": float(x[np.argmin(slope)]) if slope.min() < 0 else None,
        "valley": _valley(x, y),
        "tenth": float(x[np.argmin(y)] / 10),
    }


def _valley(x: Floats, y: Floats) -> float | None:
    """Two thirds through the longest stretch over which the loss only falls."""
    falls = np.concatenate([[False], np.diff(y) < 0])
    longest, begin, run = 0, 0, 0
    for at, falling in enumerate(falls):
        run = run + 1 if falling else 0
        if run > longest:
            longest, begin = run, at - run
    return float(x[begin + round(longest * 2 / 3)]) if longest else None

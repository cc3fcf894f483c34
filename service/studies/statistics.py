"""How sure a difference between settings is, from a few seeds of each. Numbers in, numbers out."""

import math
from collections.abc import Sequence
from typing import Any

from service.states import Direction

CONFIDENCE = 0.95
MOST_SEEDS = 1000  # beyond which more seeds are no advice


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def variance(values: Sequence[float]) -> float:
    """Of a sample: the divisor is n - 1."""
    middle = mean(values)
    return math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)


def interval(values: Sequence[float]) -> list[float] | None:
    """Student's interval of the mean at 95 %; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = quantile(len(values) - 1) * math.sqrt(variance(values) / len(values))
    return [mean(values) - half, mean(values) + half]


def quantile(freedom: float) -> float:
    """The two-sided 95 % point of Student's distribution. freedom: above 0, not always whole."""
    from scipy.special import stdtrit  # a tenth of a second, which a process without studies does not pay

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def verdict(a: Sequence[float], b: Sequence[float], direction: Direction) -> dict[str, Any]:
    """Whether a is better than b, by Welch's unequal-variances interval of the difference of their means.

    more_seeds_needed: about how many more of each would tell, if the spread stays as it is; None when it is clear, or
    when no number is known to help.
    """
    difference = mean(a) - mean(b)
    if len(a) < 2 or len(b) < 2:
        return _told(difference, None, "cannot_tell", max(2 - min(len(a), len(b)), 1))
    parts = [variance(each) / len(each) for each in (a, b)]
    error = math.sqrt(sum(parts))
    if error == 0:
        clear = difference != 0
        return _told(
            difference, [difference, difference], _word(difference, direction) if clear else "cannot_tell", None
        )
    freedom = sum(parts) ** 2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, (a, b), strict=True) if part)
    half = quantile(freedom) * error
    if abs(difference) > half:
        return _told(difference, [difference - half, difference + half], _word(difference, direction), None)
    needed = None
    if difference:
        # With n seeds of each, the interval is about 1.96 * sqrt((s_a**2 + s_b**2) / n) wide on either side.
        wanted = math.ceil(quantile(1e6) ** 2 * (variance(a) + variance(b)) / difference**2)
        more = max(1, wanted - min(len(a), len(b)))
        needed = more if more <= MOST_SEEDS else None
    return _told(difference, [difference - half, difference + half], "cannot_tell", needed)


def _word(difference: float, direction: Direction) -> str:
    return "better" if (difference > 0) == (direction is Direction.MAX) else "worse"


def _told(difference: float, interval: list[float] | None, word: str, needed: int | None) -> dict[str, Any]:
    return {
        "difference": difference,
        "interval": interval,
        "verdict": word,
        "basis": "seeds",
        "more_seeds_needed": needed,
    }

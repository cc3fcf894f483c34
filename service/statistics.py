"""What samples say about what they were drawn from: intervals for means and for differences. Arrays in, numbers out.

SciPy has all of this. It would take a sixth of the service's memory, and most of the first comparison's time, so that a
test holds the two against each other instead.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from service.curves.rollups import Floats

CONFIDENCE = 0.95
SMALL = 10  # from so many samples on, a mean is nearly normal whatever they are drawn from
SKEWED = 1.0
RESAMPLES = 2000
POWER = 0.8  # of finding a difference that is there
ALMOST = 1e-14
ROUNDS = 500


@lru_cache(maxsize=4096)
def t_quantile(probability: float, freedom: float) -> float:
    """The value below which Student's t with `freedom` > 0 degrees lies with this probability, in (0, 1)."""
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    # Newton's method from the normal quantile, which is never larger: the curve is concave, so no step goes too far.
    value = NormalDist().inv_cdf(probability)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    for _ in range(ROUNDS):
        density = scale * math.exp(-(freedom + 1) / 2 * math.log1p(value * value / freedom))
        step = (probability - t_cumulative(value, freedom)) / density
        value += step
        if step <= 1e-12 * value:
            break
    return value


def t_cumulative(value: float, freedom: float) -> float:
    """The probability that Student's t with so many degrees of freedom is below a value of at least 0."""
    return 1 - _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value)) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function for x in [0, 1] (Abramowitz and Stegun 26.5.8, as a continued fraction
    by Lentz's method).
    """
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    fraction, upper, lower = 1.0, 1.0, 0.0
    for step in range(ROUNDS):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        lower = 1 / _apart_from_zero(1 + term * lower)
        upper = _apart_from_zero(1 + term / upper)
        fraction *= lower * upper
        if abs(lower * upper - 1) < ALMOST:
            break
    return front * (fraction - 1)


def _apart_from_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


@dataclass(frozen=True, eq=False)
class Band:
    """Mean curves with the interval that holds the true mean: shape (m,) each; no interval for a single sample."""

    mean: Floats
    lower: Floats | None
    upper: Floats | None
    method: str | None  # student_t or bootstrap


def band(samples: Floats, confidence: float = CONFIDENCE) -> Band:
    """The mean of each column and its interval. samples: shape (n, m), n >= 1, finite.

    By Student's t; where n is small and the samples are skewed, which t does not see, by the bootstrap.
    """
    count = len(samples)
    mean = samples.mean(axis=0)
    if count < 2:
        return Band(mean, None, None, None)
    if 3 < count < SMALL and abs(skewness(samples[:, -1])) > SKEWED:
        lower, upper = bootstrap_interval(samples, confidence)
        return Band(mean, lower, upper, "bootstrap")
    error = samples.std(axis=0, ddof=1) / math.sqrt(count)
    margin = t_quantile(0.5 + confidence / 2, count - 1) * error
    return Band(mean, mean - margin, mean + margin, "student_t")


def skewness(samples: Floats) -> float:
    """The adjusted Fisher-Pearson coefficient of n >= 3 samples (Joanes and Gill 1998); 0 when all are the same."""
    count = len(samples)
    apart = samples - samples.mean()
    variance = float((apart**2).mean())
    if variance <= ALMOST * float(np.abs(samples).max()) ** 2:
        return 0.0
    plain = float(((apart / math.sqrt(variance)) ** 3).mean())
    return plain * math.sqrt(count * (count - 1)) / (count - 2)


def bootstrap_interval(samples: Floats, confidence: float) -> tuple[Floats, Floats]:
    """(lower, upper) for the mean of each column: shape (n, m) in, (m,) each out.

    Percentiles of the means of resamples, taken further out as a small n demands (Hesterberg 2015, What teachers
    should know about the bootstrap, section 5.3). The same samples give the same interval.
    """
    count = len(samples)
    chosen = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    means = chosen / count @ samples
    further = math.sqrt(count / (count - 1)) * t_quantile(0.5 + confidence / 2, count - 1)
    tail = NormalDist().cdf(-further)
    lower, upper = np.quantile(means, [tail, 1 - tail], axis=0)
    return lower, upper


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error, and the degrees of freedom that the error was estimated with."""

    value: float
    error: float
    freedom: float


def mean_of_samples(samples: Floats) -> Mean:
    """Of independent samples: shape (n,), n >= 2."""
    freedom = len(samples) - 1
    if alike(samples):
        return Mean(float(samples[0]), 0.0, freedom)
    return Mean(float(samples.mean()), float(samples.std(ddof=1)) / math.sqrt(len(samples)), freedom)


def alike(values: Floats) -> bool:
    """Whether all values are the same. Their deviation does not tell: the mean of three times 0.1 is not 0.1, and what
    is left by rounding would pass for a spread, and for a difference.
    """
    return bool(values.min() == values.max())


def mean_of_series(values: Floats) -> Mean:
    """Of values that hang together, such as the end of a curve: shape (n,), n >= 4.

    The error is that of the circular block bootstrap (Politis and Romano 1992) with blocks of about the square root of
    n, in closed form: resampling all blocks for ever would give the spread of their means.
    """
    count = len(values)
    length = max(2, math.isqrt(count))
    blocks = count / length
    freedom = max(1.0, blocks - 1)
    if alike(values):
        return Mean(float(values[0]), 0.0, freedom)
    sums = np.cumsum(np.concatenate([[0.0], values, values[: length - 1]]))
    means = (sums[length:] - sums[:-length]) / length
    variance = float(((means - values.mean()) ** 2).mean()) / (blocks - 1)
    return Mean(float(values.mean()), math.sqrt(variance), freedom)


def difference(first: Mean, second: Mean, confidence: float) -> tuple[float, float, float]:
    """(difference, low, high) of two means, with Welch's degrees of freedom (Welch 1947)."""
    apart = first.value - second.value
    error, freedom = _of_difference(first, second)
    if not math.isfinite(error):
        return apart, -math.inf, math.inf  # larger than can be told
    margin = t_quantile(0.5 + confidence / 2, freedom) * error
    return apart, apart - margin, apart + margin


def difference_of_samples(first: Floats, second: Floats, confidence: float) -> tuple[float, float, float]:
    """(difference, low, high) of the means of independent samples: shapes (n,) and (m,), both at least 2.

    By Welch; where n and m differ no narrower than by Student, with one variance for both. The deviation of two samples
    may by chance be next to nothing, and beside twenty others Welch's interval then is: it is right too rarely.
    """
    means = mean_of_samples(first), mean_of_samples(second)
    apart, low, high = difference(*means, confidence)
    if len(first) == len(second):
        return apart, low, high
    freedom = len(first) + len(second) - 2
    # Of each the sum of squares is n (n - 1) times the squared error of the mean.
    error = math.hypot(*(mean.error * math.sqrt((mean.freedom + 1) * mean.freedom) for mean in means))
    error *= math.sqrt((1 / len(first) + 1 / len(second)) / freedom)
    margin = t_quantile(0.5 + confidence / 2, freedom) * error
    return apart, min(low, apart - margin), max(high, apart + margin)


def _of_difference(first: Mean, second: Mean) -> tuple[float, float]:
    """(error, freedom): of the difference of two means, infinite where it is larger than can be told."""
    error = math.hypot(first.error, second.error)
    if error == 0 or not math.isfinite(error):
        return error, first.freedom + second.freedom
    parts = (first.error / error) ** 2, (second.error / error) ** 2
    freedom = 1 / (parts[0] ** 2 / first.freedom + parts[1] ** 2 / second.freedom)
    # Rounded down a little, so that many pairs share a quantile; the interval is never narrower for it.
    return error, math.floor(freedom * 10) / 10 if freedom > 10 else math.floor(freedom * 100) / 100


def samples_needed(apart: float, deviations: tuple[float, float], confidence: float, most: int) -> int | None:
    """How many samples of each of two kinds would tell means so far apart from each other; None beyond `most`.

    deviations: of single samples. If the true difference is the one that was seen, so many find it in four cases of
    five (Cohen 1988, Statistical power analysis, section 2.4, with t in place of the normal distribution).
    """
    # By the normal distribution, whose quantiles are smaller: fewer are never enough, and it is but a few more.
    quantiles = NormalDist().inv_cdf(0.5 + confidence / 2) + NormalDist().inv_cdf(POWER)
    root = quantiles * math.hypot(*deviations) / abs(apart) if apart else math.inf
    if not root <= math.sqrt(most):
        return None
    for count in range(max(2, math.ceil(root * root)), most + 1):
        means = [Mean(0.0, deviation / math.sqrt(count), count - 1) for deviation in deviations]
        error, freedom = _of_difference(*means)
        if (t_quantile(0.5 + confidence / 2, freedom) + t_quantile(POWER, freedom)) * error < abs(apart):
            return count
    return None

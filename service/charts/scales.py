"""What an axis spans, and where its ticks stand: at round numbers."""

import math
from typing import NamedTuple

from service.charts.lettering import tick_labels

ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
TINY = 1e-300  # what is smaller has no room below it for the steps between ticks
ALMOST = 1e-9  # of a step or of a size: what is lost to rounding


class Scale(NamedTuple):
    """low, high: the ends of the axis. ticks: within them, rising. labels: one for each tick."""

    low: float
    high: float
    ticks: list[float]
    labels: list[str]


def linear(low: float, high: float, most: int, *, exact: bool = False, whole: bool = False) -> Scale:
    """About `most` ticks or fewer, at least two. The ends are ticks too, unless they are to be `exact`.

    A span of nothing is widened around its middle. whole: ticks are whole numbers.
    """
    size = max(abs(low), abs(high))
    if high - low <= max(size * ALMOST, TINY):
        margin = max(size / 10 if size > TINY else 1.0, float(whole))
        low, high, exact = low - margin, high + margin, False
    step = _round_step((high - low) / max(most, 2))
    if whole:
        step = 5.0 if step == 2.5 else max(step, 1.0)
    if not exact:
        low, high = min(low, _floor(low / step) * step), max(high, -_floor(-high / step) * step)
    first, last = -_floor(-low / step), _floor(high / step)
    ticks = [index * step for index in range(first, last + 1)]
    return Scale(low, high, ticks, tick_labels(ticks, step))


def logarithmic(low: float, high: float, most: int) -> Scale:
    """The same for exponents of ten, at least one apart: the ends are 1, 2 or 5 times a power, as are the ticks.

    When these were too many, ticks stand at powers alone, or at every second one, and so on.
    """
    grid = [
        exponent + math.log10(digit)
        for exponent in range(math.floor(low) - 1, math.ceil(high) + 1)
        for digit in (1, 2, 5)
    ]
    bottom = max(tick for tick in grid if tick <= low + ALMOST)
    top = min(tick for tick in grid if tick >= high - ALMOST)
    ticks = [tick for tick in grid if bottom <= tick <= top]
    if len(ticks) > most + 1:
        powers = [tick for tick in ticks if abs(tick - round(tick)) < ALMOST]
        ticks = powers[:: math.ceil((len(powers) - 1) / most) or 1]
    return Scale(min(bottom, low), max(top, high), ticks, [_power_label(tick) for tick in ticks])


def _round_step(step: float) -> float:
    """The next larger of the round numbers 1, 2, 2.5 and 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * digit for digit in ROUND if power * digit >= step * (1 - ALMOST))


def _floor(value: float) -> int:
    """Rounded down, but a hair below a whole number counts as that number."""
    return math.floor(value + ALMOST)


def _power_label(exponent: float) -> str:
    if -4 <= exponent < 5:
        return f"{10**exponent:.5g}"
    power = math.floor(exponent + ALMOST)
    return f"{10 ** (exponent - power):.0f}e{power}"

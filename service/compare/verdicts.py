"""Which of two is better, or that this cannot be told: with the interval that says so, and what would settle it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from service import statistics
from service.compare.entries import Entry, Outcome
from service.compare.groups import Group, bests
from service.curves.rollups import Floats
from service.states import Direction
from service.statistics import Mean

# Of the interval that must leave out zero. A little more than 95 %: of a thousand pairs without a difference more than
# fifty would otherwise get a verdict every second time. One deviation is still found with 20 seeds in 83 % of cases.
CONFIDENCE = 0.965
FEWEST_SEEDS = 2
FEWEST_ALIKE = 4
FEWEST_OF_TAIL = 8
TAIL = 0.25  # share of a curve that is compared when there is one seed each
MOST_SEEDS = 1000
UNKNOWN_SPREAD = 2  # further seeds that give a spread at all
MANY = 0.5  # verdicts that chance alone is to be expected to give, from which on a reader is told


@dataclass(frozen=True)
class Verdict:
    """What is known of `a` beside `b`: keys of groups, or ids of runs.

    difference: a minus b, of the mean best values over seeds, or of the ends of the two curves; None where one of them
    has no finite value. interval: of the difference; None where there is too little to make one. basis: `seeds`, or
    `tail` for one run each, which says how these two runs ended and nothing about other seeds. more_seeds_needed: of
    each, to find a difference of the size that was seen in four cases of five; None when it is settled, or would take
    more than a thousand.
    """

    a: Any
    b: Any
    difference: float | None
    interval: tuple[float, float] | None
    verdict: str  # better, worse, cannot_tell
    basis: str
    more_seeds_needed: int | None


@dataclass(frozen=True, eq=False)
class Side:
    """One of two that are compared: its name, the best values of its runs, and how its curve ends.

    bests: shape (n,); empty where one of the runs has none, since those that are left were chosen by having one.
    tail: of the curve of its one run, None where that is too short for an error. end: the mean of the last tenth.
    """

    name: Any
    bests: Floats
    tail: Mean | None
    end: float | None = None


def of_runs(entries: Sequence[Entry], outcomes: Sequence[Outcome | None], better: Direction) -> list[Verdict]:
    """Each run beside each later one, where both have the metric."""
    sides = [
        Side(entry.run_id, bests([told]), tail(entry), told.tail_mean)
        for entry, told in zip(entries, outcomes, strict=True)
        if told is not None
    ]
    return _pairs(sides, better)


def of_groups(groups: Sequence[Group], outcomes: dict[str, Outcome | None], better: Direction) -> list[Verdict]:
    """Each group beside each later one, where both have the metric."""
    sides = []
    for group in groups:
        told = [known for each in group.entries if (known := outcomes[each.run_id]) is not None]
        if told:
            alone = next(each for each in group.entries if outcomes[each.run_id] is not None)
            tail_of_one = tail(alone) if len(told) == 1 else None
            found = bests(told)
            whole = found if len(found) == len(told) else found[:0]
            sides.append(Side(group.key, whole, tail_of_one, group.summary.tail_mean))
    return _pairs(sides, better)


def by_chance(judged: Sequence[Verdict]) -> str | None:
    """A caution where so many pairs are judged, each by itself, that chance alone would tell some of them apart."""
    pairs = sum(each.interval is not None for each in judged)
    expected = pairs * (1 - CONFIDENCE)
    if expected < MANY or all(each.verdict == "cannot_tell" for each in judged):
        return None
    return (
        f"each of {pairs} pairs is judged by itself: were none of them different, chance alone would still call about "
        f"{max(1, round(expected))} better or worse"
    )


def _pairs(sides: Sequence[Side], better: Direction) -> list[Verdict]:
    return (
        [] if better is Direction.NONE else [judge(first, second, better) for first, second in combinations(sides, 2)]
    )


def judge(first: Side, second: Side, better: Direction) -> Verdict:
    """By the seeds where both have several, else by the ends of the two curves."""
    if min(len(first.bests), len(second.bests)) == 0:
        return Verdict(first.name, second.name, None, None, "cannot_tell", "tail", None)
    if min(len(first.bests), len(second.bests)) >= FEWEST_SEEDS:
        if statistics.alike(first.bests) and statistics.alike(second.bests):
            return _without_spread(first, second, better)
        apart, low, high = statistics.difference_of_samples(first.bests, second.bests, CONFIDENCE)
        verdict = _word(low, high, better)
        needed = _more_seeds(first.bests, second.bests, apart) if verdict == "cannot_tell" else None
        return Verdict(first.name, second.name, apart, (low, high), verdict, "seeds", needed)
    if first.tail is None or second.tail is None:
        ends = None if first.end is None or second.end is None else first.end - second.end
        return Verdict(first.name, second.name, ends, None, "cannot_tell", "tail", UNKNOWN_SPREAD)
    apart, low, high = statistics.difference(first.tail, second.tail, CONFIDENCE)
    verdict = _word(low, high, better)
    needed = UNKNOWN_SPREAD if verdict == "cannot_tell" else None
    return Verdict(first.name, second.name, apart, (low, high), verdict, "tail", needed)


def _without_spread(first: Side, second: Side, better: Direction) -> Verdict:
    """All runs of a side came to the same: with four each, that they do so by chance is unlikely (2 orders in 70)."""
    apart, runs = float(first.bests[0] - second.bests[0]), min(len(first.bests), len(second.bests))
    verdict = _word(apart, apart, better) if runs >= FEWEST_ALIKE else "cannot_tell"
    needed = FEWEST_ALIKE - runs if runs < FEWEST_ALIKE and apart else None
    return Verdict(first.name, second.name, apart, (apart, apart), verdict, "seeds", needed)


def tail(entry: Entry) -> Mean | None:
    """The end of a run's curve: the last quarter of its points, or its last eight; None when it has fewer."""
    if entry.curve is None:
        return None
    values = entry.curve.value[entry.curve.weight > 0]
    if len(values) < FEWEST_OF_TAIL:
        return None
    return statistics.mean_of_series(values[-max(FEWEST_OF_TAIL, math.ceil(TAIL * len(values))) :])


def _word(low: float, high: float, better: Direction) -> str:
    if low <= 0 <= high or not np.isfinite([low, high]).all():
        return "cannot_tell"
    return "better" if (high < 0) == (better is Direction.MIN) else "worse"


def _more_seeds(first: Floats, second: Floats, apart: float) -> int | None:
    deviations = float(first.std(ddof=1)), float(second.std(ddof=1))
    needed = statistics.samples_needed(apart, deviations, CONFIDENCE, MOST_SEEDS)
    return None if needed is None else max(1, needed - min(len(first), len(second)))

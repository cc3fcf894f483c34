"""The rules about the learning rate: too high, too low, and what to try instead."""

import math
from typing import Any

from service.diagnosis.case import BENGIO, SMITH, Case, Sibling, rung, say, short
from service.diagnosis.findings import Code, Finding
from service.diagnosis.signals import NORMAL_MEDIAN, Signal

CLIMBED = 1.5  # times the start: a level that no noise of a batch explains
SHOT_UP = 10.0  # times the start: a single value that not even a last batch of two samples explains
RECOVERED = 0.1  # of the start: whoever got there has survived the climb
CERTAIN = 4.0  # standard deviations
LOST_AGAIN = 0.2  # of what had been gained
ROUGH = 0.08  # of the start: neighbouring stretches of a curve that falls as it should are closer
HARDLY = 0.05  # of the start: so small a fall is none
STILL_FALLING = 0.12  # of the whole fall in the last third; 0.33 is a straight line, and what has settled is at 0.02
HIGH = 0.25  # of the start: above it, much of what there is to learn is still there
NEGLIGIBLE = 0.02  # of the first training loss: what is smaller is not looked at
BETWEEN = 0.5  # of a sibling's fall


def too_high(case: Case, train: Signal) -> Finding | None:
    highest, start, unit = float(train.level.max()), train.start, abs(train.start)
    peak, peak_step = train.peak
    lowest, lowest_step = train.lowest
    gained, lost = start - lowest, train.tail - lowest
    facts: dict[str, Any] = {"start": short(start), "tail_mean": short(train.tail)}
    climbed = highest > start + (CLIMBED - 1) * unit or peak > start + (SHOT_UP - 1) * unit
    swings = math.sqrt(6) * NORMAL_MEDIAN * train.noise  # the roughness of independent noise
    if climbed and train.tail > RECOVERED * start:
        place = peak_step
        facts |= {"peak": short(peak), "peak_step": peak_step}
        rule = f"the loss climbed above {CLIMBED} times its start, or once above {SHOT_UP:g} times ({BENGIO})"
        words = f"{train.metric} shot up from {say(start)} to {say(peak)} at step {peak_step}"
    elif lost > max(LOST_AGAIN * gained, NEGLIGIBLE * unit, CERTAIN * train.noise) and train.tail > HIGH * start:
        place = lowest_step
        facts |= {"lowest_level": short(lowest), "lowest_step": lowest_step}
        rule = f"more than {LOST_AGAIN:.0%} of what was gained is lost again ({SMITH})"
        words = f"{train.metric} fell to {say(lowest)} around step {lowest_step} and rose again to {say(train.tail)}"
    elif train.roughness > max(ROUGH * unit, CERTAIN * swings):
        place = int(train.steps[0])
        facts |= {"roughness": short(train.roughness)}
        rule = f"neighbouring stretches differ by more than {ROUGH:.0%} of the start ({SMITH})"
        words = f"{train.metric} swings up and down by about {say(train.roughness)} from one stretch to the next"
    else:
        better = _better_sibling(case, train, larger=False)
        if better is None:
            return None
        place = int(train.steps[0])
        facts |= {"lowest": short(train.bottom), **_of_sibling(better)}
        rule = f"a run with a smaller learning rate, all else equal, fell by more than {1 / BETWEEN:g} times as much"
        words = _beside(train, better)
    return Finding(
        Code.LEARNING_RATE_TOO_HIGH,
        place,
        train.last_step,
        {"metric": train.metric, **facts, "rule": rule},
        f"{words}: the updates are larger than the valley that they should descend into.",
        slower(case, 3),
    )


def too_low(case: Case, train: Signal) -> Finding | None:
    start, tail, unit = train.start, train.tail, abs(train.start)
    fall = start - tail
    facts: dict[str, Any] = {
        "start": short(start),
        "tail_mean": short(tail),
        "share_of_fall_in_last_third": short(train.share_at_end),
    }
    better = _better_sibling(case, train, larger=True)
    if fall < max(HARDLY * unit, 2 * train.noise) and not case.held_down:
        rule = f"the loss fell by less than {HARDLY:.0%} of its start ({BENGIO})"
        words, factor = f"{train.metric} has hardly moved: {say(start)} at first, {say(tail)} now", 10.0
    elif train.share_at_end > STILL_FALLING and tail > HIGH * start and 2 * train.roughness < fall:
        rule = f"more than {STILL_FALLING:.0%} of the fall came in the last third, with much still to learn ({SMITH})"
        words = f"{train.metric} is at {say(tail)} and still falls steadily"
        factor = 10.0 if train.share_at_end > 2 * STILL_FALLING else 3.0
    elif better is not None:
        facts |= {"lowest": short(train.bottom), **_of_sibling(better)}
        rule = f"a run with a larger learning rate, all else equal, fell by more than {1 / BETWEEN:g} times as much"
        words = _beside(train, better)
        factor = 3.0
    else:
        return None
    return Finding(
        Code.LEARNING_RATE_TOO_LOW,
        int(train.steps[len(train.steps) * 2 // 3]),
        train.last_step,
        {"metric": train.metric, **facts, "rule": rule},
        f"{words}: larger updates would get there in fewer steps.",
        faster(case, factor),
    )


def _better_sibling(case: Case, train: Signal, *, larger: bool) -> Sibling | None:
    """The best run with a larger (or smaller) rate, if its loss fell more than twice as far."""
    rate = case.learning_rate
    if rate is None:
        return None
    # Single values on both sides: the lowest of them lies below any level, by as much as the batches are noisy.
    fall = train.start - train.bottom
    others = _learned(case, above=rate) if larger else _learned(case, below=rate)
    best = min(others, key=lambda each: each.lowest, default=None)
    if best is None or fall > BETWEEN * (train.start - best.lowest):
        return None
    return best


def _beside(train: Signal, sibling: Sibling) -> str:
    lowest, rate = say(train.bottom), sibling.learning_rate
    return f"{train.metric} came down to {lowest} at best; with {rate:g} it came down to {say(sibling.lowest)}"


def _of_sibling(sibling: Sibling) -> dict[str, Any]:
    return {
        "sibling": sibling.run_id,
        "sibling_learning_rate": sibling.learning_rate,
        "sibling_lowest": short(sibling.lowest),
    }


def slower(case: Case, factor: float) -> str:
    rate = case.learning_rate
    if rate is None:
        return f"a learning rate {factor:g} times smaller"
    best = _best_rate(case, below=rate)
    failed = [each.learning_rate for each in case.siblings if not each.learned]
    smallest = min([rate, *(each for each in failed if best is None and each > 0)])
    return f"try hyperparameters.learning_rate {best if best is not None else rung(smallest / factor):g}"


def faster(case: Case, factor: float) -> str:
    rate = case.learning_rate
    if rate is None:
        return f"a learning rate {factor:g} times larger"
    wanted = _best_rate(case, above=rate) or rung(rate * factor)
    edge = min(
        (each.learning_rate for each in case.siblings if not each.learned and each.learning_rate > rate),
        default=math.inf,
    )
    if wanted >= edge:  # halfway to where it is known not to train
        wanted = float(f"{math.sqrt(rate * edge):.2g}")
    return f"try hyperparameters.learning_rate {wanted:g}"


def _best_rate(case: Case, *, below: float = math.inf, above: float = 0.0) -> float | None:
    """The rate of the best sibling in a range."""
    within = _learned(case, below=below, above=above)
    return min(within, key=lambda each: each.lowest).learning_rate if within else None


def _learned(case: Case, *, below: float = math.inf, above: float = 0.0) -> list[Sibling]:
    """The siblings with a rate in a range that learned something."""
    return [each for each in case.siblings if each.learned and above < each.learning_rate < below]

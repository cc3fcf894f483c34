"""What short runs over a range of learning rates say about which one to use. Arrays in, results out.

A good start is not the rate that is best after the first steps but a higher one, short of the edge of stability: what
is quickest over a hundred steps is usually a little slow over a thousand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.studies import rules, stability
from service.studies.stability import RISE, TINY, Floats, Runs, Verdict

WAY = 1 / 3  # how far from the best rate to the edge the suggestion lies, on a logarithmic scale
PROGRESS = 0.1  # of the loss at the start, by which it must fall at some rate for an answer
WIDEST = 30.0  # ratio of the ends of the interval from which the answer is too vague to be one
REPLICATES = 400
CONFIDENCE = 0.95
CHANCE = 20261123  # the same runs give the same interval

RULE = (
    "a third of the way, on a logarithmic scale, from the rate that is best after the steps to the first higher one "
    "whose loss oscillates or rises"
)
RULE_WITHOUT_EDGE = "the rate that is best after the steps: no higher one of the range oscillates or rises"


@dataclass(frozen=True)
class Rate:
    """One learning rate and its runs; `loss` is the smoothed training loss after the steps, over seeds.

    loss, held_out_loss: geometric means (arithmetic ones where losses fall below 0), None when one of the runs
    diverged or none was measured. low, high: the extremes of the training loss over seeds. unstable: what shows that
    the rate is too high, in a word.
    """

    learning_rate: float
    loss: float | None
    low: float | None
    high: float | None
    held_out_loss: float | None
    runs: int
    unstable: str | None


@dataclass(frozen=True)
class Finding:
    """The answer, or why there is none: exactly one of `suggested` and `no_clear_answer` is None.

    measure: the loss by which rates are judged after the steps, `val_loss` where it was measured, else `train_loss`.
    stability_edge: None when no rate of the range is unstable. interval: of the suggestion, from resampled seeds and
    steps. others: what other rules would suggest.
    """

    measure: str
    rates: list[Rate]
    initial_loss: float | None
    best_after_steps: float | None
    stability_edge: float | None
    suggested: float | None
    interval: list[float] | None
    rule: str | None
    others: dict[str, float | None]
    no_clear_answer: dict[str, str] | None


def analyse(
    rates: Sequence[float], losses: Floats, held_out: Floats, unfinished: dict[str, str] | None = None
) -> Finding:
    """Finds the learning rate.

    rates: k, rising. losses: shape (k, seeds, steps), at least two steps; infinite from the step on at which a run
    diverged, and all NaN for a run that does not count. held_out: shape (k, seeds), the loss on the validation split
    after the last step; infinite for a run that diverged, NaN where it was not measured. unfinished: why there can
    be no answer, whatever the runs say.
    """
    scale = np.log(np.asarray(rates, np.float64))
    runs = stability.looked_at(losses, held_out)
    made = np.asarray(runs.made)
    measure = "val_loss" if made.any() and not np.isnan(held_out[made]).any() else "train_loss"
    initial = float(np.median(losses[:, :, 0][made])) if made.any() else None
    # How high chance takes the loss of a rate that hardly moves the weights.
    ceiling = float(np.max(runs.highest[0], where=made[0], initial=initial or 0.0)) + RISE * abs(initial or 0.0)
    found = stability.judge(runs, measure, ceiling)
    best, edge = found.best, found.edge
    why = unfinished or _unanswered(runs, found, initial, steps=losses.shape[2])
    interval = None
    if why is None and best is not None:
        interval = _interval(scale, runs, measure, ceiling)
        if interval[1] / interval[0] > WIDEST:
            why = _reason("noisy", f"chance moves it between {interval[0]:.2g} and {interval[1]:.2g}: take more seeds")
    suggested = _suggested(scale, best, edge) if why is None and best is not None else None
    training = stability.over_seeds(runs.tail.mean(axis=-1), made)
    held = _held_out(runs)
    return Finding(
        measure=measure,
        rates=[_rate(rates[at], training[at], held[at], runs, found.signs[at], at) for at in range(len(scale))],
        initial_loss=initial,
        best_after_steps=None if best is None else float(rates[best]),
        stability_edge=None if edge is None else float(rates[edge]),
        suggested=suggested,
        interval=interval,
        rule=None if suggested is None else RULE if edge is not None else RULE_WITHOUT_EDGE,
        others=rules.suggested(np.asarray(rates, np.float64), training),
        no_clear_answer=why,
    )


def as_dict(found: Finding) -> dict[str, Any]:
    """Under the names of the contract."""
    return {**vars(found), "rates": [vars(rate) for rate in found.rates]}


def _unanswered(runs: Runs, found: Verdict, initial: float | None, steps: int) -> dict[str, str] | None:
    """Why the runs give no answer, or None when they do."""
    if initial is None:
        return _reason("no_runs", "no run has come to a loss")
    if found.best is None:
        return _reason("diverged", "the loss became infinite at every rate: begin the range lower")
    fell = _fall(initial, stability.over_seeds(runs.tail.mean(axis=-1), runs.made))
    if fell < PROGRESS:
        return _reason("flat", f"the loss fell by {max(fell, 0):.0%} at best in {steps} steps: take more steps")
    held_out = _held_out(runs)
    if np.isfinite(held_out).any():
        # The lowest rate leaves almost as it was what the held-out loss began with.
        learned = _fall(max(float(held_out[0]), initial), held_out)
        if learned < PROGRESS:
            return _reason("memorised", f"the loss on rows held back fell by {max(learned, 0):.0%} at best")
    tried = np.flatnonzero(runs.made.any(axis=-1))
    if len(tried) > 1 and found.best == tried[-1]:
        return _reason("range_too_low", "the highest rate did best: let the range end higher")
    if len(tried) > 1 and found.best == tried[0]:
        return _reason("range_too_high", "the lowest rate did best: let the range begin lower")
    return None


def _fall(start: float, levels: Floats) -> float:
    """How far the lowest of the levels lies below a start, as a part of the start's size."""
    return (start - float(levels.min())) / max(abs(start), TINY)


def _held_out(runs: Runs) -> Floats:
    """The held-out loss of each rate: shape (rates,); infinite where a run diverged, or none was measured."""
    return stability.over_seeds(runs.held_out, runs.made & ~np.isnan(runs.held_out))


def _reason(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def _suggested(scale: Floats, best: int, edge: int | None) -> float:
    return float(np.exp(scale[best] + (WAY * (scale[edge] - scale[best]) if edge is not None else 0.0)))


def _interval(scale: Floats, runs: Runs, measure: str, ceiling: float) -> list[float]:
    """A percentile bootstrap (Efron & Tibshirani 1993, chapter 13) over seeds and steps.

    It is widened by half a step of the range at either end: between two rates that were tried nothing is known.
    """
    chance = np.random.default_rng(CHANCE)
    found = []
    for _ in range(REPLICATES):
        verdict = stability.judge(runs.resampled(chance), measure, ceiling)
        if verdict.best is not None:
            found.append(np.log(_suggested(scale, verdict.best, verdict.edge)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    half = float(np.median(np.diff(scale))) / 2 if len(scale) > 1 else 0.0
    return [float(np.exp(low - half)), float(np.exp(high + half))]


def _rate(rate: float, level: float, held_out: float, runs: Runs, sign: str | None, at: int) -> Rate:
    made = runs.made[at]
    spread = runs.tail[at].mean(axis=-1)[made]
    spread = spread[np.isfinite(spread)]
    return Rate(
        learning_rate=float(rate),
        loss=float(level) if np.isfinite(level) else None,
        low=float(spread.min()) if len(spread) else None,
        high=float(spread.max()) if len(spread) else None,
        held_out_loss=float(held_out) if np.isfinite(held_out) else None,
        runs=int(made.sum()),
        unstable=sign,
    )

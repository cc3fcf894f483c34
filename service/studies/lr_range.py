"""What short runs over a range of learning rates say about which one to use. Arrays in, results out.

A good start is not the rate that is best after the first steps but a higher one, short of the edge of stability: what
is quickest over a hundred steps is usually a little slow over a thousand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TAIL = 0.1  # share of the steps, the last ones, whose mean is the loss after the steps
FEWEST = 5  # steps in the tail, at least
WAY = 1 / 3  # how far from the best rate to the edge the suggestion lies, on a logarithmic scale
RESTLESS = 2.0  # times the jitter of the best rate's loss, from which a run counts as oscillating
RISE = 0.1  # of the loss at the start, by which a loss must pass it to count as risen
PROGRESS = 0.1  # of the loss at the start, by which it must fall at some rate for an answer
WIDEST = 30.0  # ratio of the ends of the interval from which the answer is too vague to be one
TINY = 1e-300  # what a loss of nothing counts as on a logarithmic scale
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

    loss, held_out_loss: geometric means, None when one of the runs diverged or was not measured. low, high: the
    extremes of the training loss over seeds. unstable: what shows that the rate is too high, in a word.
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


@dataclass(frozen=True, eq=False)
class Runs:
    """What is looked at of the runs: shape (rates, seeds, ...) each.

    tail: the losses of the last steps. jumps: from step to step in the second half. highest: the largest loss.
    held_out: the loss on the validation split after the last step, NaN where not measured. made: which runs count.
    """

    tail: Floats
    jumps: Floats
    highest: Floats
    held_out: Floats
    made: NDArray[np.bool_]

    def resampled(self, chance: np.random.Generator) -> "Runs":
        """Other seeds and other steps, drawn from these; the same for all rates, which saw the same batches."""
        seeds = chance.integers(self.made.shape[1], size=self.made.shape[1])
        tail, jumps = (chance.integers(part.shape[2], size=part.shape[2]) for part in (self.tail, self.jumps))
        return Runs(
            self.tail[:, seeds][:, :, tail],
            self.jumps[:, seeds][:, :, jumps],
            self.highest[:, seeds],
            self.held_out[:, seeds],
            self.made[:, seeds],
        )


@dataclass(frozen=True, eq=False)
class Verdict:
    """Each rate's level by which it is judged, the place of the best one, and what is unstable above it."""

    level: Floats
    best: int | None
    signs: list[str | None]

    @property
    def edge(self) -> int | None:
        return None if self.best is None else next((at for at, sign in enumerate(self.signs) if sign), None)


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
    runs = _looked_at(losses, held_out)
    made = np.asarray(runs.made)
    measure = "val_loss" if made.any() and not np.isnan(held_out[made]).any() else "train_loss"
    initial = float(np.median(losses[:, :, 0][made])) if made.any() else None
    # How high chance takes the loss of a rate that hardly moves the weights.
    ceiling = float(np.max(runs.highest[0], where=made[0], initial=initial or 0.0)) + RISE * abs(initial or 0.0)
    found = _judge(runs, measure, ceiling)
    best, edge = found.best, found.edge
    why = unfinished or _unanswered(runs, found, initial, steps=losses.shape[2])
    interval = None
    if why is None and best is not None:
        interval = _interval(scale, runs, measure, ceiling)
        if interval[1] / interval[0] > WIDEST:
            why = _reason("noisy", f"chance moves it between {interval[0]:.2g} and {interval[1]:.2g}: take more seeds")
    suggested = _suggested(scale, best, edge) if why is None and best is not None else None
    training = _over_seeds(runs.tail.mean(axis=-1), made)
    return Finding(
        measure=measure,
        rates=[_rate(rates[at], training[at], runs, found.signs[at], at) for at in range(len(scale))],
        initial_loss=initial,
        best_after_steps=None if best is None else float(rates[best]),
        stability_edge=None if edge is None else float(rates[edge]),
        suggested=suggested,
        interval=interval,
        rule=None if suggested is None else RULE if edge is not None else RULE_WITHOUT_EDGE,
        others=_others(np.asarray(rates, np.float64), training),
        no_clear_answer=why,
    )


def as_dict(found: Finding) -> dict[str, Any]:
    """Under the names of the contract."""
    return {**vars(found), "rates": [vars(rate) for rate in found.rates]}


def _looked_at(losses: Floats, held_out: Floats) -> Runs:
    steps = losses.shape[2]
    made = ~np.isnan(losses[:, :, 0])
    losses = np.where(np.isfinite(losses), losses, np.inf)
    with np.errstate(invalid="ignore"):
        jumps = np.diff(losses[:, :, steps // 2 - 1 :], axis=-1)
    return Runs(
        tail=losses[:, :, -min(steps, max(FEWEST, round(TAIL * steps))) :],
        jumps=np.where(np.isfinite(jumps), jumps, np.inf),
        highest=losses.max(axis=-1),
        held_out=held_out,
        made=made,
    )


def _over_seeds(values: Floats, made: NDArray[np.bool_]) -> Floats:
    """The geometric mean over seeds: shape (rates, seeds) in, (rates,) out; infinite when a run diverged or none is.

    Losses of runs that learn differ by factors, so that an arithmetic mean would follow the worst seed alone.
    """
    count = made.sum(axis=-1)
    logs = np.log(np.maximum(values, TINY), where=made, out=np.zeros(values.shape))
    return np.where(count > 0, np.exp(logs.sum(axis=-1) / np.maximum(count, 1)), np.inf)


def _judge(runs: Runs, measure: str, ceiling: float) -> Verdict:
    """Which rate is best, and which higher ones diverge, rise above where they began, or oscillate."""
    made = runs.made
    level = _over_seeds(runs.held_out if measure == "val_loss" else runs.tail.mean(axis=-1), made)
    if not np.isfinite(level).any():
        return Verdict(level, None, ["diverges" if each.any() else None for each in made])
    best = int(np.argmin(level))
    with np.errstate(over="ignore"):
        jitter = _over_seeds(np.sqrt((runs.jumps * runs.jumps).mean(axis=-1)), made)
    highest = np.where(made, runs.highest, -np.inf).max(axis=-1)
    signs: list[str | None] = []
    for at in range(len(level)):
        sign = None
        if at > best and made[at].any():
            if not np.isfinite(level[at]):
                sign = "diverges"
            elif highest[at] > ceiling:
                sign = "rises"
            elif jitter[at] > RESTLESS * jitter[best] and level[at] > level[best]:
                sign = "oscillates"
        signs.append(sign)
    return Verdict(level, best, signs)


def _unanswered(runs: Runs, found: Verdict, initial: float | None, steps: int) -> dict[str, str] | None:
    """Why the runs give no answer, or None when they do."""
    if initial is None:
        return _reason("no_runs", "no run has come to a loss")
    if found.best is None:
        return _reason("diverged", "the loss became infinite at every rate: begin the range lower")
    fell = 1 - float(_over_seeds(runs.tail.mean(axis=-1), runs.made).min()) / initial
    if fell < PROGRESS:
        return _reason("flat", f"the loss fell by {max(fell, 0):.0%} at best in {steps} steps: take more steps")
    # The lowest rate leaves almost as it was what the held-out loss began with.
    held_out = _over_seeds(runs.held_out, runs.made & ~np.isnan(runs.held_out))
    if np.isfinite(held_out).any():
        learned = 1 - float(held_out.min()) / max(float(held_out[0]), initial)
        if learned < PROGRESS:
            return _reason("memorised", f"the loss on rows held back fell by {max(learned, 0):.0%} at best")
    tried = np.flatnonzero(runs.made.any(axis=-1))
    if len(tried) > 1 and found.best == tried[-1]:
        return _reason("range_too_low", "the highest rate did best: let the range end higher")
    if len(tried) > 1 and found.best == tried[0]:
        return _reason("range_too_high", "the lowest rate did best: let the range begin lower")
    return None


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
        verdict = _judge(runs.resampled(chance), measure, ceiling)
        if verdict.best is not None:
            found.append(np.log(_suggested(scale, verdict.best, verdict.edge)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    half = float(np.median(np.diff(scale))) / 2 if len(scale) > 1 else 0.0
    return [float(np.exp(low - half)), float(np.exp(high + half))]


def _others(rates: Floats, level: Floats) -> dict[str, float | None]:
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


def _rate(rate: float, level: float, runs: Runs, sign: str | None, at: int) -> Rate:
    made = runs.made[at]
    spread = runs.tail[at].mean(axis=-1)[made]
    spread = spread[np.isfinite(spread)]
    held_out = float(_over_seeds(runs.held_out[at : at + 1], made[None])[0])
    return Rate(
        learning_rate=float(rate),
        loss=float(level) if np.isfinite(level) else None,
        low=float(spread.min()) if len(spread) else None,
        high=float(spread.max()) if len(spread) else None,
        held_out_loss=held_out if np.isfinite(held_out) else None,
        runs=int(made.sum()),
        unstable=sign,
    )

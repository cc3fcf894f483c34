"""Which learning rate is best after the first steps, and which higher ones are not stable. Arrays in, results out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TAIL = 0.1  # share of the steps, the last ones, whose mean is the loss after the steps
FEWEST = 5  # steps in the tail, at least
RESTLESS = 2.0  # times the jitter of the best rate's loss, from which a run counts as oscillating
RISE = 0.1  # of the loss at the start, by which a loss must pass it to count as risen
TINY = 1e-300  # what a loss of nothing counts as on a logarithmic scale


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


def looked_at(losses: Floats, held_out: Floats) -> Runs:
    """losses: shape (rates, seeds, steps), held_out: (rates, seeds), both as `lr_range.analyse` takes them."""
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


def over_seeds(values: Floats, made: NDArray[np.bool_]) -> Floats:
    """The geometric mean over seeds: shape (rates, seeds) in, (rates,) out; infinite when a run diverged or none is.

    Losses of runs that learn differ by factors, so that an arithmetic mean would follow the worst seed alone. It is
    that one all the same where a loss is below 0, as the logarithm of a likelihood may be.
    """
    count = made.sum(axis=-1)
    if (values[made] < 0).any():
        means = np.where(made, values, 0.0).sum(axis=-1) / np.maximum(count, 1)
    else:
        logs = np.log(np.maximum(values, TINY), where=made, out=np.zeros(values.shape))
        means = np.exp(logs.sum(axis=-1) / np.maximum(count, 1))
    return np.where(count > 0, means, np.inf)


def judge(runs: Runs, measure: str, ceiling: float) -> Verdict:
    """Which rate is best, and which higher ones diverge, rise above where they began, or oscillate."""
    made = runs.made
    level = over_seeds(runs.held_out if measure == "val_loss" else runs.tail.mean(axis=-1), made)
    if not np.isfinite(level).any():
        return Verdict(level, None, ["diverges" if each.any() else None for each in made])
    best = int(np.argmin(level))
    with np.errstate(over="ignore"):
        jitter = over_seeds(np.sqrt((runs.jumps * runs.jumps).mean(axis=-1)), made)
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

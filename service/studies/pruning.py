"""Which trials of a search promise nothing, from their values so far. Pure.

A trial's history holds its value at each validation; the resource that it has used is how many there were.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median

from service.states import Direction

REDUCTION = 3  # of asha: one in three goes on from each rung
RUNGS = 2  # of asha: rungs before the end
STARTUP = 5  # trials that median lets finish before it ends any

History = Sequence[float]


def hopeless(
    pruner: str, direction: Direction, running: Mapping[int, History], finished: Mapping[int, History], validations: int
) -> dict[int, str]:
    """{trial: why} of the running trials that should end.

    running, finished: by number, in the order of their validations; trials that were pruned count as running
    histories that ended, and stand in `finished`. What is not finite counts as worse than everything else.
    validations: that a whole trial has.
    """
    running, finished = _ordered(direction, running), _ordered(direction, finished)
    match pruner:
        case "median":
            return _median(direction, running, finished, validations)
        case "asha":
            return _asha(direction, running, finished, validations)
        case _:
            return {}


def _median(
    direction: Direction, running: Mapping[int, History], finished: Mapping[int, History], validations: int
) -> dict[int, str]:
    """The median stopping rule (Golovin et al. 2017, "Google Vizier", section 3.2.2), but for one thing.

    It ends a trial whose best value so far is worse than the median of the best that whole trials had by then. There
    it is the median of their averages up to then, which the high losses of each beginning hold above all that follows.
    """
    whole = [history for history in finished.values() if len(history) >= validations]
    if len(whole) < STARTUP:
        return {}
    found = {}
    for number, history in running.items():
        if 0 < len(history) < validations:
            middle = median(_best(direction, other[: len(history)]) for other in whole)
            if _worse(direction, _best(direction, history), middle):
                found[number] = f"pruned: below the median of {len(whole)} trials at validation {len(history)}"
    return found


def rungs(validations: int) -> list[int]:
    """After how many validations asha looks at a trial."""
    return sorted({max(1, validations // REDUCTION**level) for level in range(1, RUNGS + 1)} - {validations})


def _asha(
    direction: Direction, running: Mapping[int, History], finished: Mapping[int, History], validations: int
) -> dict[int, str]:
    """Asynchronous successive halving (Li et al. 2020, "A system for massively parallel hyperparameter tuning",
    algorithm 2), in the form that stops trials instead of pausing them: at each rung one in three goes on.
    """
    found = {}
    for rung in rungs(validations):
        at_rung = {
            number: _best(direction, history[:rung])
            for number, history in {**finished, **running}.items()
            if len(history) >= rung
        }
        kept = max(1, len(at_rung) // REDUCTION)
        ordered = sorted(at_rung.values(), reverse=direction is Direction.MAX)
        for number, history in running.items():
            if rung <= len(history) < validations and _worse(direction, at_rung[number], ordered[kept - 1]):
                place = ordered.index(at_rung[number]) + 1
                found[number] = f"pruned: {place} of {len(ordered)} at validation {rung}, where {kept} go on"
    return found


def _ordered(direction: Direction, histories: Mapping[int, History]) -> dict[int, History]:
    """The histories without what has no place in an order, or, being infinite, would have the best."""
    worst = -math.inf if direction is Direction.MAX else math.inf
    return {
        number: [value if math.isfinite(value) else worst for value in history] for number, history in histories.items()
    }


def _best(direction: Direction, history: History) -> float:
    return max(history) if direction is Direction.MAX else min(history)


def _worse(direction: Direction, a: float, b: float) -> bool:
    return a < b if direction is Direction.MAX else a > b

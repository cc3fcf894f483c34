"""Searches by optuna: what to try next, and what came of it.

The state is ours: optuna is told the history anew each time. Importing it takes a second and tens of megabytes, so
only a process with a search pays.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from service.states import Direction
from service.studies import grid
from service.studies.grid import Outcome
from service.studies.requests import Dimension, SearchRequest

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

Space = Mapping[str, Dimension]

STARTUP = 10  # trials by chance before tpe suggests
LEVELS = 4  # parts of a range whose means are compared


@dataclass(frozen=True)
class Tried:
    """One trial so far. value: of one that is whole, or was pruned. state: running, complete, pruned or failed."""

    parameters: dict[str, Any]
    state: str
    value: float | None = None


def suggest(asked: SearchRequest, direction: Direction, tried: Sequence[Tried], count: int) -> list[dict[str, Any]]:
    """The parameters of the next trials, `count` of them. The same history gives the same suggestions."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: list[dict[str, Any]] = []
    for number in range(len(tried), len(tried) + count):
        # A seed of its own for each number: what comes next does not depend on when the process was started.
        seed = (asked.seed * 1_000_003 + number) % 2**32
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed)
        if asked.sampler == "tpe":
            sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, constant_liar=True, seed=seed)
        study = optuna.create_study(sampler=sampler, direction=word(direction))
        underway = [Tried(parameters, "running") for parameters in found]
        tell(study, asked.space, [*tried, *underway])
        chosen = study.ask(distributions(asked.space)).params
        found.append({name: _chosen(asked.space[name], value) for name, value in chosen.items()})
    return found


def report(
    asked: SearchRequest,
    direction: Direction,
    outcomes: Sequence[Outcome],
    tried: Sequence[Tried],
    steps: int,
    full: int,
) -> dict[str, Any]:
    """The best whole trial, the ranking, the history, what each parameter does and what pruning saved.

    `importances.weighed` adds how much each parameter mattered.
    steps, full: taken by the trials, and what they had taken without pruning.
    """
    best: int | None = None
    history = []
    for number, (outcome, each) in enumerate(zip(outcomes, tried, strict=True)):
        value = each.value if each.state == "complete" else None
        if value is not None and (best is None or _is_better(direction, value, tried[best].value)):
            best = number
        history.append(
            {
                "trial": number,
                "job_id": outcome.job_id,
                "parameters": outcome.parameters,
                "state": each.state,
                "value": each.value,
                "best_so_far": None if best is None else tried[best].value,
            }
        )
    metric = asked.metric or ""
    return {
        "metric": metric,
        "direction": direction.value,
        "best": None if best is None else history[best],
        "ranking": grid.ranking(direction, outcomes),
        "history": history,
        "main_effects": grid.main_effects(outcomes, {name: _level(each) for name, each in asked.space.items()}),
        "importances": None,
        "parallel_coordinates": grid.parallel(metric, outcomes),
        "states": {word: sum(each.state == word for each in tried) for word in ("complete", "pruned", "failed")},
        "steps": steps,
        "steps_without_pruning": full,
    }


def _level(asked: Dimension) -> Callable[[Any], Any]:
    """Where a value of a parameter lies: itself among choices, else the ends of its quarter of the range."""
    if asked.choices is not None:
        return lambda value: value
    assert asked.low is not None
    assert asked.high is not None
    edges = (np.geomspace if asked.log else np.linspace)(asked.low, asked.high, LEVELS + 1)

    def level(value: Any) -> list[float]:
        at = int(np.clip(np.searchsorted(edges, value, "right") - 1, 0, LEVELS - 1))
        return [float(f"{edge:.4g}") for edge in edges[at : at + 2]]

    return level


def _is_better(direction: Direction, a: float, b: float | None) -> bool:
    return b is None or (a > b if direction is Direction.MAX else a < b)


def word(direction: Direction) -> Literal["minimize", "maximize"]:
    return "maximize" if direction is Direction.MAX else "minimize"


def distributions(space: Space) -> "dict[str, BaseDistribution]":
    return {name: _distribution(dimension) for name, dimension in space.items()}


def _distribution(asked: Dimension) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if asked.choices is not None:
        # By place: a choice may be a list, which optuna does not take.
        return CategoricalDistribution(list(range(len(asked.choices))))
    assert asked.low is not None
    assert asked.high is not None
    if asked.type == "int":
        return IntDistribution(int(asked.low), int(asked.high), log=bool(asked.log))
    return FloatDistribution(asked.low, asked.high, log=bool(asked.log))


def _chosen(asked: Dimension, value: Any) -> Any:
    return asked.choices[value] if asked.choices is not None else value


def _place(asked: Dimension, value: Any) -> Any:
    """The inverse of `_chosen`; true is not 1."""
    if asked.choices is None:
        return value
    return next(
        at
        for at, choice in enumerate(asked.choices)
        if choice == value and isinstance(choice, bool) is isinstance(value, bool)
    )


def tell(study: "Study", space: Space, tried: Sequence[Tried]) -> None:
    """Gives the study of optuna the trials that we know."""
    from optuna.trial import TrialState, create_trial

    states = {
        "running": TrialState.RUNNING,
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }
    for each in tried:
        study.add_trial(
            create_trial(
                state=states[each.state],
                params={name: _place(space[name], value) for name, value in each.parameters.items()},
                distributions=distributions(space),
                value=each.value if each.state == "complete" else None,
                intermediate_values={1: each.value} if each.state == "pruned" and each.value is not None else {},
            )
        )

"""Searches by optuna: what to try next, and which parameters mattered.

The state is ours: optuna is told the history anew each time. Importing it takes a second and tens of megabytes, so
only a process with a search pays.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import structlog

from service.states import Direction
from service.studies import grid
from service.studies.grid import Outcome
from service.studies.requests import Dimension, SearchRequest

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

log = structlog.get_logger()

STARTUP = 10  # trials by chance before tpe suggests
FEWEST_TO_WEIGH = 4  # whole trials
MOST_SECONDS = 120.0


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
    distributions = {name: _distribution(dimension) for name, dimension in asked.space.items()}
    found: list[dict[str, Any]] = []
    for number in range(len(tried), len(tried) + count):
        # A seed of its own for each number: what comes next does not depend on when the process was started.
        seed = (asked.seed * 1_000_003 + number) % 2**32
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed)
        if asked.sampler == "tpe":
            sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, constant_liar=True, seed=seed)
        study = optuna.create_study(sampler=sampler, direction=_word(direction))
        underway = [Tried(parameters, "running") for parameters in found]
        _tell(study, asked, distributions, [*tried, *underway])
        chosen = study.ask(distributions).params
        found.append({name: _chosen(asked.space[name], value) for name, value in chosen.items()})
    return found


def weighed(asked: SearchRequest, found: dict[str, Any]) -> dict[str, Any]:
    """The report with the importance of each parameter.

    Found in a process of its own: the random forest would leave this one with twice its memory.
    """
    question = {"asked": asked.model_dump(mode="json"), "report": found}
    command = [sys.executable, "-m", "service.studies.importances"]
    try:
        done = subprocess.run(  # noqa: S603
            command, input=json.dumps(question), capture_output=True, text=True, timeout=MOST_SECONDS, check=True
        )
    except subprocess.SubprocessError as error:
        # The search has its answer all the same.
        log.warning("importances not found", error=str(error))
        return found
    return found | {"importances": json.loads(done.stdout)}


def importances(asked: SearchRequest, found: Mapping[str, Any]) -> dict[str, float] | None:
    """The share of each parameter in the variance of the metric, by functional ANOVA over a random forest (Hutter et
    al. 2014); None when there are too few whole trials, or all gave the same value. found: the report.
    """
    whole = [
        Tried(row["parameters"], row["state"], row["value"]) for row in found["history"] if row["state"] == "complete"
    ]
    if len(whole) < FEWEST_TO_WEIGH or len({each.value for each in whole}) < 2:
        return None
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=_word(Direction(found["direction"])))
    _tell(study, asked, {name: _distribution(dimension) for name, dimension in asked.space.items()}, whole)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def report(
    asked: SearchRequest,
    direction: Direction,
    outcomes: Sequence[Outcome],
    tried: Sequence[Tried],
    steps: int,
    full: int,
) -> dict[str, Any]:
    """The best whole trial, the history and what pruning saved; `weighed` adds how much each parameter mattered.

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
        "history": history,
        "importances": None,
        "parallel_coordinates": grid.parallel(metric, outcomes),
        "states": {word: sum(each.state == word for each in tried) for word in ("complete", "pruned", "failed")},
        "steps": steps,
        "steps_without_pruning": full,
    }


def _is_better(direction: Direction, a: float, b: float | None) -> bool:
    return b is None or (a > b if direction is Direction.MAX else a < b)


def _word(direction: Direction) -> Literal["minimize", "maximize"]:
    return "maximize" if direction is Direction.MAX else "minimize"


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


def _tell(
    study: "Study", asked: SearchRequest, distributions: "Mapping[str, BaseDistribution]", tried: Sequence[Tried]
) -> None:
    """Gives the study of optuna the trials that we know."""
    from optuna.trial import TrialState, create_trial

    states = {
        "running": TrialState.RUNNING,
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }
    for each in tried:
        placed = {name: _place(asked.space[name], value) for name, value in each.parameters.items()}
        study.add_trial(
            create_trial(
                state=states[each.state],
                params=placed,
                distributions=dict(distributions),
                value=each.value if each.state == "complete" else None,
                intermediate_values={1: each.value} if each.state == "pruned" and each.value is not None else {},
            )
        )

"""What runs of many settings say: which is best, how sure that is, and how much each parameter matters. Pure."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from service import statistics
from service.compare import verdicts
from service.compare.verdicts import Side, Verdict
from service.states import Direction

MANY = 7  # verdicts on the best setting, from which on chance gives one in every fourth grid of settings alike
NO_LEVELS: Mapping[str, Callable[[Any], Any]] = {}


@dataclass(frozen=True)
class Outcome:
    """One run: what it was set to, and the best value of the metric; None when it has none."""

    job_id: str | None
    parameters: dict[str, Any]
    seed: int
    value: float | None


def report(metric: str, direction: Direction, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Ranking, groups over seeds, verdicts against the best group, main effects and parallel coordinates.

    `importances.weighed` adds how much each parameter mattered.
    """
    groups = _groups(direction, outcomes)
    judged = _verdicts(direction, groups)
    return {
        "metric": metric,
        "direction": direction.value,
        "best": groups[0] if groups and groups[0]["mean"] is not None else None,
        "ranking": ranking(direction, outcomes),
        "groups": groups,
        "verdicts": [vars(each) for each in judged],
        "main_effects": main_effects(outcomes),
        "importances": None,
        "parallel_coordinates": parallel(metric, outcomes),
        "warnings": list(_warnings(outcomes, judged)),
    }


def _order(direction: Direction, value: float | None) -> tuple[bool, float]:
    """A key that puts the best first, and what has no value last."""
    if value is None:
        return True, 0.0
    return False, -value if direction is Direction.MAX else value


def ranking(direction: Direction, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The runs, the best first; those without a value last, and without a rank."""
    ordered = sorted(outcomes, key=lambda each: _order(direction, each.value))
    return [
        {
            "rank": None
            if each.value is None
            else 1 + sum(_order(direction, other.value) < _order(direction, each.value) for other in ordered),
            "job_id": each.job_id,
            "parameters": each.parameters,
            "seed": each.seed,
            "value": each.value,
        }
        for each in ordered
    ]


def _groups(direction: Direction, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The runs of each setting together, the best mean first."""
    gathered: dict[str, list[Outcome]] = {}
    for each in outcomes:
        gathered.setdefault(_key(each.parameters), []).append(each)
    groups = []
    for runs in gathered.values():
        values = [each.value for each in runs if each.value is not None]
        groups.append(
            {
                "parameters": runs[0].parameters,
                "job_ids": [each.job_id for each in runs if each.job_id is not None],
                "runs": len(runs),
                "values": values,
                "mean": fmean(values) if values else None,
                "interval": interval(values),
            }
        )
    return sorted(groups, key=lambda group: _order(direction, group["mean"]))


def _verdicts(direction: Direction, groups: Sequence[dict[str, Any]]) -> list[Verdict]:
    """The best group against each of the others."""
    known = [group for group in groups if group["values"]]
    return [verdicts.judge(_side(known[0]), _side(other), direction) for other in known[1:]]


def _side(group: dict[str, Any]) -> Side:
    return Side(group["parameters"], np.array(group["values"], np.float64), None, group["mean"])


def interval(values: Sequence[float]) -> list[float] | None:
    """Student's 95 % interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    found = statistics.mean_of_samples(np.array(values, np.float64))
    half = statistics.t_quantile(0.5 + statistics.CONFIDENCE / 2, found.freedom) * found.error
    return [found.value - half, found.value + half]


def main_effects(
    outcomes: Sequence[Outcome], level_of: Mapping[str, Callable[[Any], Any]] = NO_LEVELS
) -> dict[str, dict[str, Any]]:
    """For each parameter the mean at each of its levels, over all others, and the share of the variance it explains.

    level_of: by the parameter's name, which level a value belongs to; each value is one of its own where none is given.
    The share is eta squared: of the sum of squares about the mean, what lies between the levels. Shares of
    parameters add up to at most 1 where every combination was run; the rest is interaction and chance. It is None where
    there are fewer than two runs for each level: a level of one run explains itself.
    """
    known = [each for each in outcomes if each.value is not None]
    if not known:
        return {}
    overall = fmean(map(_value, known))
    # Of values that are all the same, rounding would leave a spread to explain.
    all_same = statistics.alike(np.array([each.value for each in known], np.float64))
    total = 0.0 if all_same else math.fsum((_value(each) - overall) ** 2 for each in known)
    effects = {}
    for name in outcomes[0].parameters:
        level = level_of.get(name, _itself)
        levels: dict[str, list[Outcome]] = {}
        for each in known:
            levels.setdefault(_key(level(each.parameters.get(name))), []).append(each)
        means = {key: fmean(map(_value, runs)) for key, runs in levels.items()}
        between = math.fsum(len(runs) * (means[key] - overall) ** 2 for key, runs in levels.items())
        effects[name] = {
            "share_of_variance": between / total if total > 0 and len(known) >= 2 * len(levels) else None,
            "range": max(means.values()) - min(means.values()),
            "levels": [
                {"value": json.loads(key), "mean": means[key], "runs": len(levels[key])}
                for key in sorted(levels, key=lambda key: _place(json.loads(key)))
            ],
        }
    return effects


def _place(level: Any) -> Any:
    """Numbers and ranges in their order before everything else, which is in order of its text."""
    first = level[0] if isinstance(level, list) and level else level
    number = isinstance(first, int | float) and not isinstance(first, bool)
    return not number, first if number else _key(level)


def parallel(metric: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Each run as a line through its parameters and its value: `axes` names the columns of `rows`."""
    names = list(dict.fromkeys(name for each in outcomes for name in each.parameters))
    return {
        "axes": [*names, metric],
        "job_ids": [each.job_id for each in outcomes],
        "rows": [[*(each.parameters.get(name) for name in names), each.value] for each in outcomes],
    }


def _warnings(outcomes: Sequence[Outcome], judged: Sequence[Verdict]) -> Iterable[dict[str, str]]:
    missing = sum(each.value is None for each in outcomes)
    if missing:
        message = (
            f"{missing} of {len(outcomes)} runs gave no value and count nowhere: a setting that fails with some seeds "
            "may look better than it is"
        )
        yield {"code": "runs_without_metric", "message": message}
    if len({each.seed for each in outcomes}) == 1 and len(outcomes) > 1:
        yield {"code": "one_seed", "message": "with one seed each, chance cannot be told from a real difference"}
    if len(judged) >= MANY and any(each.verdict != "cannot_tell" for each in judged):
        message = (
            f"the best of {len(judged) + 1} settings was chosen from all of them, and the others are held against it: "
            "were none of them different, chance alone might still call some worse"
        )
        yield {"code": "many_pairs", "message": message}


def _value(each: Outcome) -> float:
    assert each.value is not None
    return each.value


def _itself(value: Any) -> Any:
    return value


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)

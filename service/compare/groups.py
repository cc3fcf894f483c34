"""Runs of one setting as one curve: the mean over them, with the interval that their number and spread allow."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service import statistics
from service.compare.entries import Entry, Outcome
from service.curves.rollups import Floats
from service.errors import FieldProblem, InvalidInput
from service.statistics import Band

FEWEST = 2  # points of a common grid


@dataclass(frozen=True, eq=False)
class GroupCurve:
    """x: shape (m,). The band has one column for each x, over the runs that have a curve."""

    x: Floats
    band: Band


@dataclass(frozen=True)
class GroupOutcome:
    """Means over the runs of a group of what each came to.

    to_target: None unless every run reached it. reached: how many did. deviation: of the runs' best values; None for
    one run. interval: of their mean, with 95 % confidence.
    """

    runs: int
    last: float | None
    best: float | None
    best_at: float | None
    tail_mean: float | None
    area: float | None
    to_target: float | None
    reached: int | None
    deviation: float | None
    interval: tuple[float, float] | None
    method: str | None


@dataclass(frozen=True, eq=False)
class Group:
    """The runs with one value of a parameter. key: that value. curve: None where the runs have no x in common."""

    key: Any
    entries: list[Entry]
    curve: GroupCurve | None
    summary: GroupOutcome


def parameter(entries: Sequence[Entry], name: str) -> str:
    """The full name of a parameter that may have been given by its last word. Raises InvalidInput."""
    known = {each for entry in entries for each in entry.parameters}
    if name in known:
        return name
    matching = sorted(each for each in known if each.rpartition(".")[2] == name)
    if len(matching) == 1:
        return matching[0]
    message = f"it may be {' or '.join(matching)}" if matching else "no run here has such a parameter"
    close = difflib.get_close_matches(name, [*known, *(each.rpartition(".")[2] for each in known)], n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close and not matching else None
    raise InvalidInput([FieldProblem("group_by", "unknown_parameter", message, hint)])


def group(
    entries: Sequence[Entry],
    outcomes: Mapping[str, Outcome | None],
    smoothed: Mapping[str, Floats | None],
    name: str,
    points: int,
    *,
    reaching: bool,
) -> list[Group]:
    """The runs by their value of a parameter, in the order of the values: numbers rising, then the others as they come.

    outcomes: by run. smoothed: by run, the values of its curve, smoothed as far as was asked for. points: at most so
    many on the common grid. reaching: whether there is a target.
    """
    found: dict[Any, list[Entry]] = {}
    for entry in entries:
        found.setdefault(_identity(entry.parameters.get(name)), []).append(entry)
    groups = [
        Group(
            members[0].parameters.get(name),
            members,
            _curve(members, smoothed, points),
            _summary([told for each in members if (told := outcomes[each.run_id]) is not None], reaching),
        )
        for members in found.values()
    ]
    return sorted(groups, key=lambda each: _place(each.key))


def _identity(key: Any) -> Any:
    """1 and 1.0 are one value, true and the text 1 are others."""
    return key if isinstance(key, int | float) and not isinstance(key, bool) else (type(key), repr(key))


def _place(key: Any) -> tuple[bool, float]:
    number = isinstance(key, int | float) and not isinstance(key, bool)
    return (not number, float(key) if number else 0.0)


def _curve(entries: Sequence[Entry], smoothed: Mapping[str, Floats | None], points: int) -> GroupCurve | None:
    """The curves on a common grid over the x that all of them have, by linear interpolation.

    Where all runs were logged at the same x, the grid is just these, and nothing is interpolated.
    """
    lines = [line for entry in entries if (line := _line(entry, smoothed[entry.run_id])) is not None]
    if not lines:
        return None
    low, high = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    first = lines[0][0]
    if len(first) <= points and all(np.array_equal(x, first) for x, _ in lines):
        grid = first
    elif low < high:
        grid = np.linspace(low, high, max(FEWEST, min(points, *(len(x) for x, _ in lines))))
    else:
        return None
    return GroupCurve(grid, statistics.band(np.stack([np.interp(grid, x, y) for x, y in lines])))


def _line(entry: Entry, values: Floats | None) -> tuple[Floats, Floats] | None:
    """The finite points of a run by rising x, one for each x: shape (n,) both."""
    if entry.curve is None or entry.x is None or values is None:
        return None
    counted = entry.curve.weight > 0
    x, places = np.unique(entry.x[counted].astype(np.float64), return_index=True)
    return (x, values[counted][places]) if len(x) else None


def _summary(outcomes: Sequence[Outcome], reaching: bool) -> GroupOutcome:
    best = bests(outcomes)
    band = statistics.band(best[:, None]) if len(best) else None
    interval = None
    if band is not None and band.lower is not None and band.upper is not None:
        interval = float(band.lower[0]), float(band.upper[0])
    reached = sum(each.to_target is not None for each in outcomes)
    return GroupOutcome(
        runs=len(outcomes),
        last=_mean([each.last for each in outcomes]),
        best=_mean([each.best for each in outcomes]),
        best_at=_mean([each.best_at for each in outcomes]),
        tail_mean=_mean([each.tail_mean for each in outcomes]),
        area=_mean([each.area for each in outcomes]),
        to_target=_mean([each.to_target for each in outcomes]),
        reached=reached if reaching else None,
        deviation=_deviation(best),
        interval=interval,
        method=None if band is None else band.method,
    )


def _deviation(best: Floats) -> float | None:
    if len(best) < 2:
        return None
    return 0.0 if statistics.alike(best) else float(best.std(ddof=1))


def bests(outcomes: Sequence[Outcome]) -> Floats:
    """The best value of each run that has one: shape (n,)."""
    return np.array([each.best for each in outcomes if each.best is not None], np.float64)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None

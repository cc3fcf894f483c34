"""Runs side by side: what differs between them and which one did best. Arrays in, results out; no database here."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.curves import Curve, Summary, direction
from service.curves.axes import Axis
from service.curves.rollups import Floats, Integers
from service.curves.smoothing import smooth
from service.states import Direction

TAIL = 0.1  # share of the points whose mean is the tail mean
INTERESTING = ("hyperparameters.", "model.")  # parameters that come first, in this order
DATA = {"dataset", "data.missing", "validation.fraction"}
LOSS = {"hyperparameters.loss", "hyperparameters.label_smoothing"}
MISSING = object()

Note = dict[str, str]  # {code, message}


@dataclass(frozen=True, eq=False)
class Entry:
    """One run of a comparison.

    parameters: flat, with dotted names. metrics: all that the run has logged.
    summary, curve, x: of the compared metric, None when the run does not have it; the curve as `curves.read` gives it,
    x the coordinates of its points, shape (m,).
    """

    run_id: str
    name: str
    parameters: Mapping[str, Any]
    metrics: Collection[str]
    summary: Summary | None = None
    curve: Curve | None = None
    x: Integers | Floats | None = None
    running: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a curve comes to, in the units of the metric and, for `best_at` and `to_target`, of x.

    last and best are exact, whatever was read of the curve. best_at is where the curve has its best value, None when
    that point was not read. tail_mean is the mean over the last tenth of the finite points, at least one, in whole
    buckets. area is the mean height: the area under the curve by the trapezoidal rule, divided by its length along x.
    to_target is the first x at which the curve, or the extreme of a bucket, reaches the target; None for never.
    """

    last: float | None
    best: float | None
    best_at: float | None
    tail_mean: float | None
    area: float | None
    to_target: float | None


@dataclass(frozen=True, eq=False)
class Compared:
    """A run in the comparison: `parameters` are the differing ones, `y` is smoothed, rank 1 is the best."""

    run_id: str
    name: str
    parameters: dict[str, Any]
    curve: Curve | None
    x: Integers | Floats | None
    y: Floats | None
    summary: Outcome | None
    rank: int | None


@dataclass(frozen=True, eq=False)
class Comparison:
    metric: str
    direction: Direction
    x: Axis
    differing_parameters: list[str]
    runs: list[Compared]
    warnings: list[Note]


def compare(
    metric: str, axis: Axis, entries: Sequence[Entry], *, target: float | None = None, smoothing: float = 0.0
) -> Comparison:
    """Compares runs by one metric, in the order given.

    target: a value of the metric. smoothing: the weight of `smooth`, in [0, 1), for the curves shown; everything else
    is computed from the curves as they are.
    """
    better = direction(metric)
    differing = differing_parameters([entry.parameters for entry in entries])
    ranks = ranked([entry.summary.best if entry.summary else None for entry in entries], better)
    runs = [
        Compared(
            run_id=entry.run_id,
            name=entry.name,
            parameters={name: entry.parameters[name] for name in differing if name in entry.parameters},
            curve=entry.curve,
            x=entry.x,
            y=None if entry.curve is None else smooth(entry.curve.value, smoothing, entry.curve.weight > 0),
            summary=outcome(entry, better, target),
            rank=rank,
        )
        for entry, rank in zip(entries, ranks, strict=True)
    ]
    return Comparison(metric, better, axis, differing, runs, list(_warnings(metric, axis, entries, differing)))


def differing_parameters(parameters: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose values are not the same everywhere, or are missing somewhere: hyperparameters first, then the model.

    Within these the order is that of the first run that has them.
    """
    names = list(dict.fromkeys(name for each in parameters for name in each))
    differing = [name for name in names if not _all_same([each.get(name, MISSING) for each in parameters])]
    return sorted(differing, key=_interest)


def ranked(values: Sequence[float | None], better: Direction) -> list[int | None]:
    """The rank of each value: 1 for the best, equal ones share the better rank, None comes behind all others.

    All None when the metric has no direction, or when there is nothing to rank.
    """
    known = [value for value in values if value is not None]
    if better is Direction.NONE or not known:
        return [None] * len(values)
    sign = 1 if better is Direction.MIN else -1
    return [
        1 + (len(known) if value is None else sum(sign * other < sign * value for other in known)) for value in values
    ]


def outcome(entry: Entry, better: Direction, target: float | None) -> Outcome | None:
    """The summary of one run, None when it has not logged the metric."""
    summary, curve, x = entry.summary, entry.curve, entry.x
    if summary is None or curve is None or x is None:
        return None
    return Outcome(
        last=summary.last,
        best=summary.best,
        best_at=_first(
            x, (curve.step == summary.best_step) & ((curve.min == summary.best) | (curve.max == summary.best))
        ),
        tail_mean=tail_mean(curve),
        area=mean_height(x[curve.weight > 0], curve.value[curve.weight > 0]),
        to_target=None if target is None else _first(x, _reached(curve, better, target)),
    )


def tail_mean(curve: Curve) -> float | None:
    """The mean of the last tenth of the finite points, at least one, rounded up to whole buckets."""
    total = int(curve.weight.sum())
    if total == 0:
        return None
    behind = total - np.cumsum(curve.weight)
    weight = np.where(behind < max(1.0, TAIL * total), curve.weight, 0)
    tail = weight > 0
    return float((curve.value[tail] * (weight[tail] / weight.sum())).sum())


def mean_height(x: Integers | Floats, y: Floats) -> float | None:
    """The area under y by the trapezoidal rule over the length of x: shape (n,) both; y finite, x in any order."""
    if len(x) == 0:
        return None
    order = np.argsort(x, kind="stable")
    x, y = x[order].astype(np.float64), y[order]
    length = x[-1] - x[0]
    if length == 0:
        return float((y / len(y)).sum())
    gaps = np.diff(x) / length
    # Summed as shares of each value, the largest numbers do not overflow.
    return float((y[:-1] * (gaps / 2)).sum() + (y[1:] * (gaps / 2)).sum())


def _reached(curve: Curve, better: Direction, target: float) -> Any:
    if better is Direction.MIN:
        return np.isfinite(curve.min) & (curve.min <= target)
    if better is Direction.MAX:
        return np.isfinite(curve.max) & (curve.max >= target)
    return np.zeros(len(curve.step), bool)


def _first(x: Integers | Floats, mask: Any) -> float | None:
    places = np.flatnonzero(mask)
    return x[places[0]].item() if len(places) else None


def _all_same(values: Sequence[Any]) -> bool:
    """Equal and of the same kind: 1 and true differ, 1 and 1.0 do not."""
    first = values[0]
    return all(value == first and isinstance(value, bool) == isinstance(first, bool) for value in values)


def _interest(name: str) -> int:
    places = [place for place, prefix in enumerate(INTERESTING) if name.startswith(prefix)]
    return places[0] if places else len(INTERESTING)


def _warnings(metric: str, axis: Axis, entries: Sequence[Entry], differing: Sequence[str]) -> Iterator[Note]:
    """What a reader of the comparison must know to draw no wrong conclusion from it."""
    validated = sorted({name for entry in entries for name in entry.metrics if name.startswith("val_")})
    if metric == "train_loss" and validated:
        best = "val_loss" if "val_loss" in validated else validated[0]
        yield _note(
            "ranked_by_training_loss",
            f"train_loss is measured on what the model has learned from; compare by {best} to see what carries over",
        )
    if direction(metric) is Direction.NONE:
        yield _note("no_direction", f"whether more or less of {metric} is better is not known, so nothing is ranked")
    for code, sentence, affected in (
        ("runs_without_metric", f"have no {metric}", [each for each in entries if each.summary is None]),
        ("still_running", "are still running and may yet do better", [each for each in entries if each.running]),
        (
            "non_finite_values",
            "hold NaN or infinite values, which count nowhere",
            [each for each in entries if each.summary is not None and each.summary.non_finite],
        ),
    ):
        if affected:
            ids = ", ".join(each.run_id for each in affected)
            yield _note(code, f"{len(affected)} of {len(entries)} runs {sentence}: {ids}")
    if DATA & set(differing):
        yield _note("different_data", "the runs were not measured on the same data, so their values do not compare")
    if metric in ("train_loss", "val_loss") and LOSS & set(differing):
        yield _note("different_losses", "the runs did not minimise the same loss, so their values do not compare")
    yield from _unequal_lengths(axis, entries)


def _unequal_lengths(axis: Axis, entries: Sequence[Entry]) -> Iterator[Note]:
    ends = [float(each.x[-1]) for each in entries if each.x is not None and len(each.x)]
    if ends and 2 * min(ends) < max(ends):
        unit = "seconds" if axis is Axis.TIME else axis.value + ("" if axis is Axis.SAMPLES else "s")
        advice = "; x=epoch or x=samples sets them side by side" if axis is Axis.STEP else ""
        yield _note("different_lengths", f"the curves end between {min(ends):,.6g} and {max(ends):,.6g} {unit}{advice}")


def _note(code: str, message: str) -> Note:
    return {"code": code, "message": message}

"""Runs side by side: what differs between them and which one did best. Arrays in, results out; no database here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.compare import groups, verdicts
from service.compare.entries import Entry, Outcome, outcome
from service.compare.groups import Group
from service.compare.verdicts import Verdict
from service.curves import Curve, direction
from service.curves.axes import Axis
from service.curves.rollups import Floats, Integers
from service.curves.smoothing import smooth
from service.states import Direction

INTERESTING = ("hyperparameters.", "model.")  # parameters that come first, in this order
DATA = {"dataset", "data.missing", "validation.fraction"}
LOSS = {"hyperparameters.loss", "hyperparameters.label_smoothing"}
SEED = "hyperparameters.seed"
UNITS = {
    Axis.STEP: "steps",
    Axis.EPOCH: "epochs",
    Axis.SAMPLES: "samples",
    Axis.TIME: "seconds",
    Axis.GPU_SECONDS: "GPU seconds",
}
MISSING = object()
MOST_NAMED = 30  # metrics

Note = dict[str, str]  # {code, message}


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

    @property
    def smoothed(self) -> bool:
        return self.curve is not None and self.y is not self.curve.value


@dataclass(frozen=True, eq=False)
class Ranked:
    """A group in the comparison; rank 1 has the best mean of its runs' best values."""

    group: Group
    rank: int | None


@dataclass(frozen=True, eq=False)
class Comparison:
    metric: str
    direction: Direction
    x: Axis
    differing_parameters: list[str]
    runs: list[Compared]
    grouped_by: str | None
    groups: list[Ranked]
    verdicts: list[Verdict]
    warnings: list[Note]


def compare(
    metric: str,
    axis: Axis,
    entries: Sequence[Entry],
    *,
    target: float | None = None,
    smoothing: float = 0.0,
    group_by: str | None = None,
    points: int = 1000,
) -> Comparison:
    """Compares runs by one metric, in the order given.

    target: a value of the metric. smoothing: the weight of `smooth`, in [0, 1), for the curves shown; everything else
    is computed from the curves as they are. group_by: the parameter whose values make groups, by its name or its last
    word; verdicts are then between groups, else between runs. points: of the curve of a group, at most.
    Raises InvalidInput for a parameter that no run has.
    """
    better = direction(metric)
    differing = differing_parameters([entry.parameters for entry in entries])
    ranks = ranked([entry.best for entry in entries], better)
    outcomes = [outcome(entry, better, target) for entry in entries]
    runs = [
        Compared(
            run_id=entry.run_id,
            name=entry.name,
            parameters={name: entry.parameters[name] for name in differing if name in entry.parameters},
            curve=curve,
            x=x,
            y=_smoothed(curve, smoothing),
            summary=told,
            rank=rank,
        )
        for entry, told, rank in zip(entries, outcomes, ranks, strict=True)
        for curve, x in [entry.shown]
    ]
    warnings = list(_warnings(metric, axis, entries, differing))
    if group_by is None:
        judged = verdicts.of_runs(entries, outcomes, better)
        return Comparison(metric, better, axis, differing, runs, None, [], judged, [*warnings, *_chances(judged)])
    name = groups.parameter(entries, group_by)
    by_run = {entry.run_id: told for entry, told in zip(entries, outcomes, strict=True)}
    smoothed = {entry.run_id: _smoothed(entry.curve, smoothing) for entry in entries}
    found = groups.group(entries, by_run, smoothed, name, points, reaching=target is not None)
    order = ranked([each.summary.best for each in found], better)
    numbered = [Ranked(each, rank) for each, rank in zip(found, order, strict=True)]
    judged = verdicts.of_groups(found, by_run, better)
    warnings += [*_mixtures(name, found), *_apart(name, axis, found), *_chances(judged)]
    return Comparison(metric, better, axis, differing, runs, name, numbered, judged, warnings)


def _smoothed(curve: Curve | None, weight: float) -> Floats | None:
    return None if curve is None else smooth(curve.value, weight, curve.weight > 0)


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
            more = _instead(entries) if code == "runs_without_metric" and len(affected) == len(entries) else ""
            yield _note(code, f"{len(affected)} of {len(entries)} runs {sentence}: {ids}{more}")
    if DATA & set(differing):
        yield _note("different_data", "the runs were not measured on the same data, so their values do not compare")
    if metric in ("train_loss", "val_loss") and LOSS & set(differing):
        yield _note("different_losses", "the runs did not minimise the same loss, so their values do not compare")
    yield from _unequal_lengths(axis, entries)


def _instead(entries: Sequence[Entry]) -> str:
    """What the runs have, for whoever has mistyped a metric."""
    found = sorted({name for entry in entries for name in entry.metrics})
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return f"; what they have is {', '.join(found[:MOST_NAMED])}{more}" if found else ""


def _mixtures(name: str, found: Sequence[Group]) -> Iterator[Note]:
    """A group whose runs differ in more than chance has a spread that is not chance's."""
    within = {
        parameter
        for each in found
        for parameter in differing_parameters([entry.parameters for entry in each.entries])
        if parameter != SEED
    }
    if within:
        names = ", ".join(sorted(within))
        yield _note("different_within_groups", f"runs with the same {name} also differ in {names}")


def _chances(judged: Sequence[Verdict]) -> Iterator[Note]:
    message = verdicts.by_chance(judged)
    if message is not None:
        yield _note("many_pairs", message)


def _apart(name: str, axis: Axis, found: Sequence[Group]) -> Iterator[Note]:
    """Groups that cannot be shown as one curve: their runs' curves have no stretch in common."""
    keys = [str(each.key) for each in found if each.curve is None and each.summary.best is not None]
    if keys:
        advice = "; x=epoch or x=samples may" if axis is Axis.STEP else ""
        yield _note(
            "no_common_x", f"with {name} {' and '.join(keys)} the runs share no stretch of x to average{advice}"
        )


def _unequal_lengths(axis: Axis, entries: Sequence[Entry]) -> Iterator[Note]:
    ends = [float(each.x[-1]) for each in entries if each.x is not None and len(each.x)]
    if ends and 2 * min(ends) < max(ends):
        unit = UNITS[axis]
        advice = "; x=epoch or x=samples sets them side by side" if axis is Axis.STEP else ""
        yield _note("different_lengths", f"the curves end between {min(ends):,.6g} and {max(ends):,.6g} {unit}{advice}")


def _note(code: str, message: str) -> Note:
    return {"code": code, "message": message}

"""A comparison as a table, as text, as a picture and as columns of a file."""

from collections import Counter
from typing import Any

import numpy as np

from service import charts
from service.api import formats
from service.api.formats import Format
from service.api.shown_curves import X_LABELS, columns, joined, logarithmic, surroundings
from service.compare import Compared, Comparison, Ranked, Verdict
from service.pictures import CurveFile, Line, Panel, Picture

LONGEST_NAME = 40
MOST_SENTENCES = 12
MOST_TOLD = 4  # parameters in a legend


def table(found: Comparison) -> tuple[list[str], formats.Rows]:
    """Headers, and a row for each run, or for each group where there are groups; the best first."""
    at = f"best_at_{found.x.value}"
    if found.grouped_by is not None:
        short = found.grouped_by.rpartition(".")[2]
        headers = ["rank", short, "runs", "best", "low", "high", "deviation", at, "last", "tail_mean", "to_target"]
        return headers, [_group_row(each) for each in _groups_by_rank(found)]
    names = charts.short_names(found.differing_parameters)
    headers = ["rank", "run_id", "name", *names, "best", at, "last", "tail_mean", "to_target"]
    return headers, [_row(run, found.differing_parameters) for run in _by_rank(found)]


def _row(run: Compared, differing: list[str]) -> list[formats.Cell]:
    chosen = [_cell(run.parameters.get(name)) for name in differing]
    outcome = run.summary
    numbers: list[formats.Cell] = [None] * 5
    if outcome is not None:
        numbers = [outcome.best, outcome.best_at, outcome.last, outcome.tail_mean, outcome.to_target]
    return [run.rank, run.run_id, run.name, *chosen, *numbers]


def _group_row(ranked: Ranked) -> list[formats.Cell]:
    told = ranked.group.summary
    low, high = told.interval or (None, None)
    return [
        ranked.rank, _cell(ranked.group.key), told.runs, told.best, low, high, told.deviation, told.best_at, told.last,
        told.tail_mean, told.to_target,
    ]  # fmt: skip


def _cell(value: Any) -> formats.Cell:
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _by_rank(found: Comparison) -> list[Compared]:
    return sorted(found.runs, key=lambda run: (run.rank is None, run.rank))


def _groups_by_rank(found: Comparison) -> list[Ranked]:
    return sorted(found.groups, key=lambda each: (each.rank is None, each.rank))


def _verdicts_by_rank(found: Comparison) -> list[Verdict]:
    """The best beside each of the others first, since most ask about it."""
    if found.grouped_by is None:
        order = [run.run_id for run in _by_rank(found)]
    else:
        order = [each.group.key for each in _groups_by_rank(found)]
    return sorted(found.verdicts, key=lambda verdict: sorted(map(order.index, (verdict.a, verdict.b))))


def text(found: Comparison, width: int) -> str:
    headers, rows = table(found)
    if found.grouped_by is not None:
        lines = [
            charts.Line(_group_label(each, found), each.group.curve.x, each.group.curve.band.mean)
            for each in _groups_by_rank(found)
            if each.group.curve is not None
        ]
    else:
        _, labels = _legend(found)
        lines = [
            charts.Line(labels[run.run_id], run.x, run.y)
            for run in _by_rank(found)
            if run.x is not None and run.y is not None
        ]
    drawn = charts.line_chart(lines, width, x_label=X_LABELS[found.x], y_label=found.metric)
    notes = [_sentence(verdict, found) for verdict in _verdicts_by_rank(found)[:MOST_SENTENCES]]
    if (more := len(found.verdicts) - MOST_SENTENCES) > 0:
        notes.append(f"… {more} further pairs: all of them with format=json")
    notes += [f"{note['code']}: {note['message']}" for note in found.warnings]
    parts = [charts.table(headers, rows, width), drawn]
    if notes:
        parts.append("".join(charts.paragraph(note, width) for note in notes))
    return "\n".join(parts)


def _sentence(verdict: Verdict, found: Comparison) -> str:
    interval = (
        "" if verdict.interval is None else f", difference {verdict.interval[0]:.4g} to {verdict.interval[1]:.4g}"
    )
    told = {"better": "is better than", "worse": "is worse than", "cannot_tell": "cannot be told from"}[verdict.verdict]
    basis = f"by {verdict.basis}" if verdict.basis == "seeds" else "by how the two curves end, one seed each"
    more = verdict.more_seeds_needed
    seeds = f"{more} more seed{'' if more == 1 else 's'} of each would"
    # Of a single run the spread is not known, so neither is how many would settle it.
    needed = "" if more is None else f"; {seeds} {'tell' if verdict.basis == 'seeds' else 'show what is chance'}"
    first, second = (_told(each, found) for each in (verdict.a, verdict.b))
    return f"{first} {told} {second} ({basis}{interval}{needed})"


def _told(name: Any, found: Comparison) -> str:
    """A run or a group as the legend has it."""
    if found.grouped_by is not None:
        return f"{found.grouped_by.rpartition('.')[2]}={_short(name)}"
    return _legend(found)[1][name]


def picture(found: Comparison, form: Format, target: float | None, log: bool | None) -> Picture:
    """The runs, or the groups with their bands; what differs is the legend."""
    names, labels = _legend(found)
    if found.grouped_by is not None:
        names = [found.grouped_by]
        lines = [_band(each, found) for each in _groups_by_rank(found) if each.group.curve is not None]
    else:
        lines = [
            Line(charts.escaped(labels[run.run_id]), run.x, run.y, *surroundings(run.curve, smoothed=run.smoothed))
            for run in _by_rank(found)
            if run.curve is not None and run.x is not None and run.y is not None
        ]
    told = ", ".join(charts.short_names(names))
    title = f"{found.metric} by {told}" if told else found.metric
    panel = Panel(lines, charts.escaped(found.metric), logarithmic(log, [found.metric]), target)
    return Picture(charts.escaped(title), [panel], X_LABELS[found.x], "png" if form is Format.PNG else "svg")


def _band(ranked: Ranked, found: Comparison) -> Line:
    curve = ranked.group.curve
    assert curve is not None
    return Line(
        charts.escaped(_group_label(ranked, found)), curve.x, curve.band.mean, curve.band.lower, curve.band.upper
    )


def _group_label(ranked: Ranked, found: Comparison) -> str:
    assert found.grouped_by is not None
    runs = ranked.group.summary.runs
    seeds = f"mean of {runs}" if runs > 1 else "one run"
    return f"{found.grouped_by.rpartition('.')[2]}={_short(ranked.group.key)} ({seeds})"


def _legend(found: Comparison) -> tuple[list[str], dict[str, str]]:
    """(names, labels): as few of the differing parameters as tell the runs apart, and what each run is called by them.

    Runs that they do not tell apart are called by their names, and if those do not either, by parameters and ids.
    """
    differing = found.differing_parameters
    choices = [differing[:most] for most in range(1, min(len(differing), MOST_TOLD) + 1)]
    for names in [*choices, []]:
        labels = {run.run_id: _told_by(run, names) for run in found.runs}
        if len(set(labels.values())) == len(labels):
            return names, labels
    names = choices[-1] if choices else []
    labels = {run.run_id: _told_by(run, names) for run in found.runs}
    called = Counter(labels.values())
    return names, {run: label if called[label] == 1 else f"{label} ({run})" for run, label in labels.items()}


def _short(value: Any) -> str:
    """A parameter as a legend has it: with as many digits of a number as tables have."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _told_by(run: Compared, names: list[str]) -> str:
    given = zip(charts.short_names(names), map(run.parameters.get, names), strict=True)
    told = ", ".join(f"{name}={_short(value)}" for name, value in given if value is not None)
    return told or run.name[:LONGEST_NAME]


def columns_of(found: Comparison) -> CurveFile:
    """A row for each point of each run, or of each group."""
    if found.grouped_by is not None:
        groups = [each for each in found.groups if each.group.curve is not None]
        rows: dict[str, list[Any]] = {"group": [], "x": [], "mean": [], "lower": [], "upper": []}
        for each in groups:
            curve = each.group.curve
            assert curve is not None
            blank = np.full(len(curve.x), np.nan)
            rows["group"] += [str(each.group.key)] * len(curve.x)
            bounds = (blank if bound is None else bound for bound in (curve.band.lower, curve.band.upper))
            for name, column in zip(("x", "mean", "lower", "upper"), (curve.x, curve.band.mean, *bounds), strict=True):
                rows[name] += column.tolist()
        return CurveFile(rows)
    shown = [run for run in found.runs if run.curve is not None]
    parts = [columns(run.curve, run.x, run.y) for run in shown if run.curve is not None]
    repeats = [len(part["x"]) for part in parts]
    facts = {name: np.repeat([getattr(run, name) for run in shown], repeats).tolist() for name in ("run_id", "name")}
    return CurveFile({**facts, "metric": [found.metric] * sum(repeats), **joined(parts)})

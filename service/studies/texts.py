"""The report of a study as text: tables, and the curve of a range test with its marks. Reports in, text out."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from service import charts
from service.studies import sayings

Report = Mapping[str, Any]
Cell = str | int | float | bool | None
Table = tuple[list[str], list[list[Cell]]]

# Of columns that would not stand beside each other under the names that the report has.
SHORT = {
    "learning_rate": "rate",
    "seconds_to_target": "seconds",
    "steps_to_target": "steps",
    "epochs_to_target": "epochs",
    "samples_to_target": "samples",
    "samples_per_second": "samples/s",
    "peak_memory_mib": "MiB",
}
# Significant ones; None for a whole number.
DIGITS = {
    "learning_rate": 3,
    "seconds_to_target": 3,
    "steps_to_target": None,
    "epochs_to_target": 3,
    "samples_to_target": None,
    "samples_per_second": None,
    "peak_memory_mib": None,
}
MOST_TIED = 5  # settings that are told beside the best one


def table(kind: str, report: Report) -> Table:
    """(headers, rows): the rows that the report rests on."""
    match kind:
        case "grid":
            names = report["parallel_coordinates"]["axes"][:-1]
            rows = [
                [
                    row["rank"],
                    row["job_id"],
                    *(_cell(row["parameters"].get(name)) for name in names),
                    row["seed"],
                    row["value"],
                ]
                for row in report["ranking"]
            ]
            return ["rank", "job_id", *charts.short_names(names), "seed", report["metric"]], rows
        case "search":
            names = report["parallel_coordinates"]["axes"][:-1]
            columns = ["trial", "state", "value", "best_so_far"]
            rows = [
                [
                    row["trial"],
                    row["job_id"],
                    row["state"],
                    *(_cell(row["parameters"].get(name)) for name in names),
                    row["value"],
                    row["best_so_far"],
                ]
                for row in report["history"]
            ]
            return [columns[0], "job_id", columns[1], *charts.short_names(names), report["metric"], "best_so_far"], rows
        case "lr_range":
            columns = ["learning_rate", "loss", "low", "high", "held_out_loss", "runs", "unstable"]
            return columns, [[row[name] for name in columns] for row in report["rates"]]
        case _:
            columns = [
                "batch_size",
                "learning_rate",
                "best",
                "seconds_to_target",
                "steps_to_target",
                "epochs_to_target",
                "samples_to_target",
                "samples_per_second",
                "peak_memory_mib",
            ]
            return columns, [[row[name] for name in columns] for row in report["rows"]]


def jobs(made: Iterable[Mapping[str, Any]]) -> Table:
    """(headers, rows): the jobs of a study that is not over."""
    rows: list[list[Cell]] = [
        [job["id"], job["status"], job["stage"], _setting(job["parameters"]), job["seed"], job["error"]] for job in made
    ]
    return ["id", "status", "stage", "parameters", "seed", "error"], rows


def text(kind: str, report: Report, width: int) -> str:
    """The table, what it means in sentences, and for a range test the chart. No line is longer than `width`."""
    headers, rows = table(kind, report)
    rounded = [[_rounded(header, cell) for header, cell in zip(headers, row, strict=True)] for row in rows]
    short = SHORT if kind == "batch_size" else {}
    parts = [charts.table([short.get(header, header) for header in headers], rounded, width)]
    if kind == "lr_range":
        parts.append(_range_chart(report, width))
    parts.append(_paragraphs(sentences(kind, report), width))
    if kind == "batch_size" and report.get("sayings"):
        said = sayings.sentences(report["sayings"])
        parts.append("what is said of batch sizes, and what this study says:\n" + _paragraphs(said, width))
    return "\n".join(part for part in parts if part)


def _rounded(header: str, cell: Cell) -> Cell:
    """As many digits as a reader compares: the CSV has them all."""
    if not isinstance(cell, float) or header not in DIGITS:
        return cell
    return round(cell) if DIGITS[header] is None else float(f"{cell:.{DIGITS[header]}g}")


def _paragraphs(said: Iterable[str], width: int) -> str:
    return "".join(charts.paragraph(each, width) for each in said)


def sentences(kind: str, report: Report) -> Iterator[str]:
    """What the report says, a sentence a line."""
    if (partial := report.get("partial")) is not None:
        yield f"so far: {partial['jobs_over']} of {partial['total_jobs']} jobs are over"
    match kind:
        case "lr_range":
            yield from _range_sentences(report)
        case "batch_size":
            target = report["target"]
            yield (
                f"seconds, steps, epochs and samples: until {target['metric']} is {target['value']:g}; "
                f"best: {target['metric']}; medians over seeds"
            )
            if report.get("partial") is not None:
                yield from map(_tested, report["range_tests"])
            yield from report["conclusions"]
        case "grid":
            yield from _grid_sentences(report)
        case "search":
            yield from _search_sentences(report)


def _tested(test: Report) -> str:
    why = test["no_clear_answer"]
    found = f"suggests {test['suggested']:.3g}" if why is None else f"no clear answer: {why['message']}"
    return f"range test of batch size {test['batch_size']}: {found}"


def _range_sentences(report: Report) -> Iterator[str]:
    if report["best_after_steps"] is not None:
        yield f"best after the steps, by {report['measure']}: {report['best_after_steps']:.4g}"
    edge = report["stability_edge"]
    yield f"edge of stability: {'none in this range' if edge is None else format(edge, '.4g')}"
    if report.get("partial") is not None:
        pass  # an answer waits for all jobs
    elif report["no_clear_answer"] is not None:
        yield f"no clear answer: {report['no_clear_answer']['message']}"
    else:
        low, high = report["interval"]
        sure = (
            "at 95 %" if max(row["runs"] for row in report["rates"]) > 1 else "by one seed, which others may contradict"
        )
        yield f"suggested: {report['suggested']:.4g} (between {low:.2g} and {high:.2g} {sure}): {report['rule']}"
    others = {name: rate for name, rate in report["others"].items() if rate is not None}
    if others:
        yield "other rules: " + ", ".join(f"{name} {rate:.3g}" for name, rate in others.items())


def _grid_sentences(report: Report) -> Iterator[str]:
    best = report["best"]
    if best is None:
        yield "no run gave a value"
        return
    interval, known = best["interval"], len(best["values"])
    between = "" if interval is None else f", {interval[0]:.4g} to {interval[1]:.4g} at 95 %"
    missing = "" if known == best["runs"] else f" ({known} of its {best['runs']} runs gave a value)"
    yield f"best {report['metric']}: {best['mean']:.4g}{between}, with {_setting(best['parameters'])}{missing}"
    tied = [verdict["b"] for verdict in report["verdicts"] if verdict["verdict"] == "cannot_tell"]
    if tied:
        more = f"; and {len(tied) - MOST_TIED} more" if len(tied) > MOST_TIED else ""
        yield f"cannot be told from it: {'; '.join(_setting(each) for each in tied[:MOST_TIED])}{more}"
    yield from _effects(report)
    yield from _importance(report)
    yield from (f"{note['code']}: {note['message']}" for note in report["warnings"])


def _search_sentences(report: Report) -> Iterator[str]:
    best = report["best"]
    if best is None:
        yield "no trial gave a value"
        return
    yield f"best {report['metric']}: {best['value']:.4g}, trial {best['trial']}, with {_setting(best['parameters'])}"
    yield from _effects(report)
    yield from _importance(report)
    if report["states"]["pruned"]:
        share = report["steps"] / report["steps_without_pruning"]
        yield f"pruned {report['states']['pruned']} trials: {share:.0%} of the steps of all"


def _effects(report: Report) -> Iterator[str]:
    for name, effect in report.get("main_effects", {}).items():
        if len(effect["levels"]) > 1:
            share = effect["share_of_variance"]
            told = name if share is None else f"{name} explains {share:.0%} of the variance"
            levels = ", ".join(f"{level['mean']:.4g} at {_level(level['value'])}" for level in effect["levels"])
            yield f"{told}: mean {levels}"


def _importance(report: Report) -> Iterator[str]:
    shares = report.get("importances") or {}
    if len(shares) > 1:
        told = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        yield f"importance by functional ANOVA: {told}"


def _level(value: Any) -> str:
    """A value, or the ends of a part of a range."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(end, float) for end in value):
        return f"{value[0]:.3g} to {value[1]:.3g}"
    return _told(value)


def _told(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _setting(parameters: Mapping[str, Any]) -> str:
    names = charts.short_names(list(parameters))
    return ", ".join(f"{name} {_told(value)}" for name, value in zip(names, parameters.values(), strict=True))


def _cell(value: Any) -> Cell:
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _range_chart(report: Report, width: int) -> str:
    """Loss against the logarithm of the rate, with an upright line at each mark."""
    known = [row for row in report["rates"] if row["loss"] is not None]
    if not known:
        return ""
    x = np.log10([row["learning_rate"] for row in known])
    # What exploded would leave no room for the rest.
    initial = report["initial_loss"] or math.inf
    ceiling = initial + abs(initial)
    whole = np.array([row["loss"] for row in known])
    losses = np.minimum(whole, ceiling)
    cut = f", cut at {ceiling:.3g}" if whole.max() > ceiling else ""
    ends = np.array([losses.min(), losses.max()])
    lines = [charts.Line(f"training loss after the steps{cut}", x, losses)]
    for name, mark in (
        ("best after the steps", report["best_after_steps"]),
        ("suggested", report["suggested"]),
        ("edge of stability", report["stability_edge"]),
    ):
        if mark is not None:
            lines.append(charts.Line(f"{name}: {mark:.3g}", np.full(2, math.log10(mark)), ends))
    return charts.line_chart(lines, width, x_label="log10 of the learning rate", y_label="loss")

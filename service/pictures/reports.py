"""The report of a study as a picture: loss by learning rate, time and steps by batch size, trials and parameters."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.pictures.requests import ReportPicture

Report = Mapping[str, Any]
BLUE, GREEN, RED, GREY = "#2563a8", "#2a7f3f", "#b3402e", "#666666"


def draw(wanted: ReportPicture) -> bytes:
    """The picture of a report."""
    panels, report = PANELS[wanted.kind], wanted.report
    figure = Figure(figsize=(7.2 * len(panels), 4.5), layout="constrained")
    for panel, axes in zip(panels, np.atleast_1d(figure.subplots(1, len(panels))), strict=True):
        panel(axes, report)
    # A dollar sign would begin a formula.
    figure.suptitle(wanted.title.replace("$", r"\$"), fontsize=11)
    content = io.BytesIO()
    figure.savefig(content, format=wanted.form, dpi=110, metadata={"Date": None} if wanted.form == "svg" else None)
    return content.getvalue()


def _range_test(axes: Axes, report: Report) -> None:
    rows = [row for row in report["rates"] if row["loss"] is not None]
    rates = [row["learning_rate"] for row in rows]
    ceiling = 2 * (report["initial_loss"] or 1.0)
    axes.fill_between(
        rates,
        [min(row["low"], ceiling) for row in rows],
        [min(row["high"], ceiling) for row in rows],
        color=BLUE,
        alpha=0.2,
        label="over seeds",
    )
    axes.plot(rates, [min(row["loss"], ceiling) for row in rows], "o-", color=BLUE, label="training loss")
    held = [row for row in rows if row["held_out_loss"] is not None]
    if held:
        losses = [min(row["held_out_loss"], ceiling) for row in held]
        axes.plot([row["learning_rate"] for row in held], losses, ".--", color=GREY, label="held-out loss")
    if report["interval"] is not None:
        axes.axvspan(*report["interval"], color=GREEN, alpha=0.12)
    for name, mark, colour, style in (
        ("best after the steps", report["best_after_steps"], GREY, ":"),
        ("suggested", report["suggested"], GREEN, "-"),
        ("edge of stability", report["stability_edge"], RED, "--"),
    ):
        if mark is not None:
            axes.axvline(mark, color=colour, linestyle=style, label=f"{name}: {mark:.3g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss after the steps")
    _finish(axes)


def _time_to_target(axes: Axes, report: Report) -> None:
    rows = _arrived(report)
    axes.plot([row["samples_per_step"] for row in rows], [row["seconds_to_target"] for row in rows], "o-", color=BLUE)
    axes.set(xlabel="batch size", ylabel="seconds to target")
    if rows:
        _double_log(axes, rows)
    _finish(axes)


def _double_log(axes: Axes, rows: list[Report]) -> None:
    """Both axes logarithmic, with the sizes themselves below."""
    axes.set(xscale="log", yscale="log")
    axes.set_xticks([row["samples_per_step"] for row in rows], [str(row["samples_per_step"]) for row in rows])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")


def _steps_to_target(axes: Axes, report: Report) -> None:
    rows = _arrived(report)
    sizes = [row["samples_per_step"] for row in rows]
    axes.plot(sizes, [row["steps_to_target"] for row in rows], "o-", color=BLUE, label="steps to target")
    if rows:
        product = rows[0]["steps_to_target"] * sizes[0]
        axes.plot(sizes, [product / size for size in sizes], "--", color=GREY, label="perfect scaling")
        _double_log(axes, rows)
    axes.set(xlabel="batch size", ylabel="steps to target")
    _finish(axes)


def _arrived(report: Report) -> list[Report]:
    rows = [row for row in report["rows"] if row["steps_to_target"] is not None]
    return sorted(rows, key=lambda row: row["samples_per_step"])


def _parallel(axes: Axes, report: Report) -> None:
    """A line for each run through its parameters to its value, the better ones darker."""
    coordinates = report["parallel_coordinates"]
    rows = [row for row in coordinates["rows"] if row[-1] is not None]
    names = coordinates["axes"]
    columns = [_placed([row[at] for row in rows]) for at in range(len(names))]
    values = columns[-1] if rows else np.empty(0)
    better = values if report["direction"] == "max" else 1 - values
    for at in np.argsort(better):
        axes.plot(
            range(len(names)), [column[at] for column in columns], color=BLUE, alpha=0.15 + 0.7 * float(better[at])
        )
    axes.set_xticks(range(len(names)), [name.rpartition(".")[2] for name in names])
    axes.set_yticks([])
    for at in range(len(names)):
        axes.axvline(at, color=GREY, linewidth=0.6)
        for end, label in enumerate(_ends([row[at] for row in rows])):
            axes.annotate(label, (at, end), xytext=(3, 3), textcoords="offset points", fontsize=8, color=GREY)


def _placed(values: list[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Each value between 0 and 1: numbers by size, on a logarithmic scale where they span decades, others by name."""
    if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = np.asarray(values, np.float64)
        if numbers.min() > 0 and numbers.max() > 100 * numbers.min():
            numbers = np.log(numbers)
    else:
        names = sorted({str(value) for value in values})
        numbers = np.array([names.index(str(value)) for value in values], np.float64)
    span = np.ptp(numbers) if len(numbers) else 0.0
    return np.asarray((numbers - numbers.min()) / span if span else np.full(len(numbers), 0.5))


def _ends(values: list[Any]) -> list[str]:
    if not values:
        return []
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return [f"{min(values):.4g}", f"{max(values):.4g}"]
    names = sorted({str(value) for value in values})
    return [names[0][:20].replace("$", r"\$"), names[-1][:20].replace("$", r"\$")]


def _history(axes: Axes, report: Report) -> None:
    known = [row for row in report["history"] if row["value"] is not None and row["state"] == "complete"]
    axes.plot([row["trial"] for row in known], [row["value"] for row in known], "o", color=BLUE, label="trials")
    best = [row for row in report["history"] if row["best_so_far"] is not None]
    axes.plot(
        [row["trial"] for row in best], [row["best_so_far"] for row in best], "-", color=GREEN, label="best so far"
    )
    axes.set(xlabel="trial", ylabel=report["metric"])
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


PANELS: dict[str, list[Callable[[Axes, Report], None]]] = {
    "lr_range": [_range_test],
    "batch_size": [_time_to_target, _steps_to_target],
    "grid": [_parallel],
    "search": [_history, _parallel],
}

"""The report of a study as a picture: loss by learning rate, time and steps by batch size, trials and parameters."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from service.pictures import parallel
from service.pictures.drawing import COLOURS, DPI, STYLE, WIDTH, fitted
from service.pictures.requests import ReportPicture

Report = Mapping[str, Any]
BLUE, RED, GREEN = COLOURS[:3]
BLACK, GREY = "#000000", "#666666"
PANEL_WIDTH, PANEL_HEIGHT = 5.2, 4.2
LETTERS = 10  # of a title, that an inch has room for
OTHER_RULES = {"steepest": "steepest descent", "valley": "valley", "tenth": "a tenth of the minimum's"}


def draw(wanted: ReportPicture) -> bytes:
    """The picture of a report."""
    panels, report = PANELS[wanted.kind], wanted.report
    with mpl.rc_context(STYLE):
        width = max(WIDTH, PANEL_WIDTH * len(panels))
        figure = Figure(figsize=(width, PANEL_HEIGHT), layout="constrained")
        for panel, axes in zip(panels, np.atleast_1d(figure.subplots(1, len(panels))), strict=True):
            panel(axes, report)
        figure.suptitle(_title(wanted, int(LETTERS * width)), fontsize=11, fontweight="bold", x=0.01, ha="left")
        content = io.BytesIO()
        metadata = {"Date": None} if wanted.form == "svg" else None
        figure.savefig(content, format=wanted.form, dpi=DPI, metadata=metadata)
    return content.getvalue()


def _title(wanted: ReportPicture, most: int) -> str:
    partial = wanted.report.get("partial")
    so_far = f" ({partial['jobs_over']} of {partial['total_jobs']} jobs are over)" if partial else ""
    return fitted(wanted.title, most - len(so_far)) + so_far


def _range_test(axes: Axes, report: Report) -> None:
    rows = [row for row in report["rates"] if row["loss"] is not None]
    rates = [row["learning_rate"] for row in rows]
    # What exploded would leave no room for the rest.
    initial = report["initial_loss"] or 1.0
    ceiling = initial + abs(initial)

    def under(name: str, among: list[Report]) -> list[float]:
        return [min(row[name], ceiling) for row in among]

    def told(label: str, name: str, among: list[Report]) -> str:
        return f"{label}, cut at {ceiling:.3g}" if any(row[name] > ceiling for row in among) else label

    low, high = under("low", rows), under("high", rows)
    held = [row for row in rows if row["held_out_loss"] is not None]
    seeds = max(row["runs"] for row in report["rates"])
    if seeds > 1:
        label = told("training loss, all seeds", "high", rows)
        axes.fill_between(rates, low, high, color=BLUE, alpha=0.2, linewidth=0, label=label)
    axes.plot(rates, under("loss", rows), "o-", color=BLUE, markersize=4, label=told("training loss", "loss", rows))
    if held:
        axes.plot(
            [row["learning_rate"] for row in held],
            under("held_out_loss", held),
            ".--",
            color=GREY,
            label=told("loss on rows held back", "held_out_loss", held),
        )
    for name, mark, colour, style in (
        ("best after the steps", report["best_after_steps"], BLACK, ":"),
        ("suggested", report["suggested"], GREEN, "-"),
        ("edge of stability", report["stability_edge"], RED, "--"),
    ):
        if mark is not None:
            axes.axvline(mark, color=colour, linestyle=style, label=f"{name}: {mark:.3g}")
    if report["interval"] is not None:
        label = "95 % interval of the suggestion" if seeds > 1 else "interval of the suggestion, from one seed"
        axes.axvspan(*report["interval"], color=GREEN, alpha=0.12, linewidth=0, label=label)
    for place, ((name, rate), marker) in enumerate(zip(report["others"].items(), "v<s", strict=False)):
        if rate is not None:
            at_the_bottom = axes.get_xaxis_transform()
            label = f"{OTHER_RULES.get(name, name)}: {rate:.3g}"
            # One above the other: they often suggest the same.
            height = [0.03 + 0.05 * place]
            axes.plot([rate], height, marker, color=GREY, transform=at_the_bottom, linestyle="none", label=label)
    positive = bool(rows) and min(low) > 0
    axes.set(
        xscale="log", yscale="log" if positive else "linear", xlabel="learning rate", ylabel="loss after the steps"
    )
    axes.xaxis.set_major_formatter("{x:g}")
    if positive:
        _sparse_ticks(axes.yaxis)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _time_to_target(axes: Axes, report: Report) -> None:
    _against_size(axes, report, "seconds_to_target")
    axes.set(ylabel=f"seconds to {_target(report)}")


def _steps_to_target(axes: Axes, report: Report) -> None:
    _against_size(axes, report, "steps_to_target")
    rows = _arrived(report)
    if rows:
        first = rows[0]
        sizes = [row["samples_per_step"] for row in _sized(report)]
        perfect = [first["steps_to_target"] * first["samples_per_step"] / size for size in sizes]
        axes.plot(sizes, perfect, "--", color=GREY, label="perfect scaling: twice the batch, half the steps")
        axes.legend(fontsize=8)
    axes.set(ylabel=f"steps to {_target(report)}")


def _best_value(axes: Axes, report: Report) -> None:
    rows = [row for row in _sized(report) if row["best"] is not None]
    for row in rows:
        bests = row.get("bests", [])
        axes.plot([row["samples_per_step"]] * len(bests), bests, ".", color=BLUE, alpha=0.5)
    axes.plot([row["samples_per_step"] for row in rows], [row["best"] for row in rows], "o-", color=BLUE, markersize=4)
    axes.axhline(report["target"]["value"], color=GREY, linestyle=":", label=f"target {report['target']['value']:g}")
    axes.legend(fontsize=8)
    axes.set(ylabel=f"best {report['target']['metric']}")
    _sizes_below(axes, report)


def _against_size(axes: Axes, report: Report, name: str) -> None:
    """A figure of each size that came to the target; crosses at the top for those that never did."""
    rows, missed = _arrived(report), [row for row in _sized(report) if row["steps_to_target"] is None]
    axes.plot([row["samples_per_step"] for row in rows], [row[name] for row in rows], "o-", color=BLUE, markersize=4)
    if rows:
        axes.set(yscale="log")
        _sparse_ticks(axes.yaxis)
    if missed:
        sizes = [row["samples_per_step"] for row in missed]
        at_the_top = axes.get_xaxis_transform()
        axes.plot(sizes, [0.97] * len(sizes), "x", color=RED, transform=at_the_top, label="never came there")
        axes.legend(fontsize=8)
    _sizes_below(axes, report)


def _sizes_below(axes: Axes, report: Report) -> None:
    """A logarithmic axis with the sizes themselves."""
    rows = _sized(report)
    axes.set(xlabel="batch size")
    if rows:
        axes.set(xscale="log")
        axes.set_xticks(
            [row["samples_per_step"] for row in rows], [str(row["batch_size"]) for row in rows], rotation=45
        )
        axes.set_xticks([], minor=True)


def _sparse_ticks(axis: Axis) -> None:
    """Numbers at 1, 2 and 5 of each decade, written as they are."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _target(report: Report) -> str:
    return f"{report['target']['metric']} {report['target']['value']:g}"


def _sized(report: Report) -> list[Report]:
    """The sizes of which some run was whole, rising."""
    rows = [row for row in report["rows"] if row["samples_per_step"] is not None]
    return sorted(rows, key=lambda row: row["samples_per_step"])


def _arrived(report: Report) -> list[Report]:
    return [row for row in _sized(report) if row["steps_to_target"] is not None]


def _history(axes: Axes, report: Report) -> None:
    rows = [row for row in report["history"] if row["value"] is not None]
    for state, marker, colour, label in (("complete", "o", BLUE, "whole"), ("pruned", "x", GREY, "ended early")):
        of_state = [row for row in rows if row["state"] == state]
        if of_state:
            trials, values = [row["trial"] for row in of_state], [row["value"] for row in of_state]
            axes.plot(trials, values, marker, color=colour, markersize=4, linestyle="none", label=label)
    best = [row for row in report["history"] if row["best_so_far"] is not None and row["state"] != "running"]
    if best:
        trials, values = [row["trial"] for row in best], [row["best_so_far"] for row in best]
        axes.step(trials, values, where="post", color=GREEN, label="best so far")
    known = [row["value"] for row in rows]
    if known and min(known) > 0 and max(known) > 10 * min(known):
        axes.set(yscale="log")
        _sparse_ticks(axes.yaxis)
    axes.set(xlabel="trial", ylabel=report["metric"])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if rows:
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, ncols=3)


PANELS: dict[str, list[Callable[[Axes, Report], None]]] = {
    "lr_range": [_range_test],
    "batch_size": [_time_to_target, _steps_to_target, _best_value],
    "grid": [parallel.panel],
    "search": [_history, parallel.panel],
}

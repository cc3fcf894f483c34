"""Parallel coordinates: each run a line through its parameters to its value."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from service import charts
from service.pictures.drawing import COLOURS
from service.pictures.requests import Floats

BLUE, RED = COLOURS[:2]
GREY = "#666666"
WIDE = 20.0  # times, from which a parameter is placed by its logarithm
FAINTEST = 0.2  # of the worst line, which is to be seen on paper too
APART = 0.05  # of the height of an axis, from which two values can be written beside it


def panel(axes: Axes, report: Mapping[str, Any]) -> None:
    """The better a run, the darker its line; the best one stands apart. report: of a grid or a search."""
    coordinates = report["parallel_coordinates"]
    rows = [row for row in coordinates["rows"] if row[-1] is not None]
    names = coordinates["axes"]
    columns = [_placed([row[at] for row in rows]) for at in range(len(names))]
    values = columns[-1] if rows else np.empty(0)
    better = values if report["direction"] == "max" else 1 - values
    order = np.argsort(better).tolist()
    for place, at in enumerate(order):
        best = place == len(order) - 1
        axes.plot(
            range(len(names)),
            [column[at] for column in columns],
            "o-" if best else "-",
            color=RED if best else BLUE,
            alpha=1.0 if best else FAINTEST + 0.5 * float(better[at]),
            linewidth=2.2 if best else 1.2,
            markersize=4,
            label="best" if best else None,
        )
    axes.set_xticks(range(len(names)), charts.short_names(names))
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.margins(x=0.12)
    axes.grid(visible=False)
    for at in range(len(names)):
        axes.axvline(at, color=GREY, linewidth=0.8, zorder=0)
        for height, label in _scale([row[at] for row in rows], columns[at]):
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
            axes.annotate(label, (at, height), (5, 0), textcoords="offset points", va="center", fontsize=8, bbox=box)
    if rows:
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def _numeric(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _placed(values: list[Any]) -> Floats:
    """Each value between 0 and 1: numbers by size, on a logarithmic scale where they span much, others in a row, which
    numbers among them begin.
    """
    if values and _numeric(values):
        numbers = np.asarray(values, np.float64)
        if numbers.min() > 0 and numbers.max() > WIDE * numbers.min():
            numbers = np.log(numbers)
    else:
        kinds = sorted(values, key=lambda value: (not _numeric([value]), value if _numeric([value]) else 0, str(value)))
        names = list(dict.fromkeys(map(str, kinds)))
        numbers = np.array([names.index(str(value)) for value in values], np.float64)
    span = np.ptp(numbers) if len(numbers) else 0.0
    return np.asarray((numbers - numbers.min()) / span if span else np.full(len(numbers), 0.5))


def _scale(values: list[Any], heights: Floats) -> list[tuple[float, str]]:
    """(height, text) of every value where there is room for each, else of the lowest and the highest."""
    told = {
        f"{value:.4g}" if _numeric([value]) else str(value)[:20]: float(at)
        for value, at in zip(values, heights, strict=True)
    }
    found = sorted((height, text) for text, height in told.items())
    close = any(above - below < APART for (below, _), (above, _) in pairwise(found))
    return [found[0], found[-1]] if close else found

"""Pictures of curves, drawn by matplotlib, fit to be printed: arrays in, PNG or SVG out."""

import io
import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from service.pictures.requests import Floats, Line, Panel, Picture

# Okabe and Ito 2008, Color universal design: told apart by people with any kind of colour vision. Yellow, which is too
# light for a line on white, comes last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
STROKES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
WIDTH, PANEL_HEIGHT, DPI = 8.0, 4.0, 150
LOWER_PANEL = 2.6
FEW = 6  # lines whose surroundings are shown; those of more cover each other
BESIDE = 0.5  # of what the lines span: the room above and below them for what surrounds them
INSIDE = 6  # names that have room within the axes
MOST_NAMES = 24
LONGEST_NAME, LONGEST_TITLE = 44, 70
ALMOST = 1e-9  # of a size: what is lost to rounding
DECADES = 1.5  # positive values that span more are drawn on a logarithmic scale
LARGEST, SMALLEST = 1e100, 1e-100  # beyond these the arithmetic of axes overflows
MANY, MOST_MANY = 10_000, 1e12  # between these, numbers at an axis are in thousands, millions and so on
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.edgecolor": "#555555",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "trainbox",  # the same curves give the same file
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
}


def draw(wanted: Picture) -> bytes:
    """The picture as a file."""
    with mpl.rc_context(STYLE):
        heights = [PANEL_HEIGHT] + [LOWER_PANEL] * (len(wanted.panels) - 1)
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.7), layout="constrained")
        grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
        legends = [_panel(axes, panel) for axes, panel in zip(grid[:, 0], wanted.panels, strict=True)]
        grid[0, 0].set_title(fitted(wanted.title, LONGEST_TITLE))
        bottom = grid[-1, 0]
        bottom.set_xlabel(wanted.x_label)
        if all(line.x.dtype.kind == "i" for panel in wanted.panels for line in panel.lines):
            _whole_numbers(bottom)
        if not any(np.isfinite(axes.dataLim.intervalx).all() for axes in grid[:, 0]):
            bottom.set_xticks([])
        elif bottom.get_xlim()[1] >= MANY:
            bottom.xaxis.set_major_formatter(EngFormatter(sep=""))
        _uncover(figure, [legend for legend in legends if legend is not None])
        stored = io.BytesIO()
        made = {"Software": None} if wanted.form == "png" else {"Date": None, "Title": wanted.title}
        figure.savefig(stored, format=wanted.form, dpi=DPI, metadata=made)
        return stored.getvalue()


def _whole_numbers(axes: Axes) -> None:
    """Steps have no parts: a single one stands between its neighbours."""
    low, high = axes.get_xlim()
    if high - low < 2:
        middle = round((low + high) / 2)
        axes.set_xlim(min(low, middle - 1), max(high, middle + 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _panel(axes: Axes, panel: Panel) -> Legend | None:
    """Draws the panel. Its legend, if that stands within the axes."""
    drawn = [line for line in panel.lines if np.isfinite(line.y).any()]
    values = np.concatenate([np.empty(0), *(_kept(line.y) for line in drawn)])
    logarithmic = _is_wide(values) if panel.log is None else panel.log and bool((values > 0).any())
    axes.set_ylabel(fitted(panel.y_label, 40))
    if len(values) == 0:
        words = f"values beyond {LARGEST:g} are not drawn" if drawn else "no points to draw"
        axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color="#777777")
        axes.set_yticks([])
    target = panel.target
    if target is not None and math.isfinite(target) and abs(target) < LARGEST:
        values = np.append(values, target)
    else:
        target = None
    if logarithmic:
        _logarithmic(axes, values)
    handles, names = [], []
    looks = cycle([(stroke, colour) for stroke in STROKES for colour in COLOURS])
    for line, (stroke, colour) in zip(panel.lines, looks, strict=False):
        handles.append(_line(axes, line, colour, stroke, shaded=len(panel.lines) <= FEW, logarithmic=logarithmic))
        names.append(_name(line, logarithmic=logarithmic))
    if target is not None:  # first, so that it is among the names however many there are
        handles.insert(0, axes.axhline(target, color="#777777", linewidth=1, linestyle=(0, (2, 2))))
        names.insert(0, f"target {target:g}")
    if len(values):
        _set_limits(axes, values, _surroundings(panel.lines), logarithmic=logarithmic)
    axes.margins(x=0.01)
    return _legend(axes, handles, names)


def _surroundings(lines: Sequence[Line]) -> Floats:
    """The ends of what is drawn around the lines."""
    if len(lines) > FEW:
        return np.empty(0)
    shown = [(_kept(line.low), _kept(line.high)) for line in lines if line.low is not None and line.high is not None]
    return np.array([end for low, high in shown if len(low) and len(high) for end in (low.min(), high.max())])


def _set_limits(axes: Axes, values: Floats, beside: Floats, *, logarithmic: bool) -> None:
    """The lines have the room; what surrounds them may be cut where a single value lies far outside."""
    if logarithmic:
        values, beside = (np.log10(np.maximum(each[each > 0], SMALLEST)) for each in (values, beside))
    low, high = float(values.min()), float(values.max())
    if len(beside):
        room = BESIDE * (high - low) or math.inf
        low, high = min(low, max(float(beside.min()), low - room)), max(high, min(float(beside.max()), high + room))
    if logarithmic:
        axes.set_ylim(10**low / 1.15, 10**high * 1.15)
        return
    flat = high - low <= ALMOST * max(abs(low), abs(high))
    margin = 0.05 * (abs(high) if flat else high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    if MANY <= high < MOST_MANY:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))


def _logarithmic(axes: Axes, values: Floats) -> None:
    axes.set_yscale("log")
    positive = values[values > 0]
    low, high = max(float(positive.min()), SMALLEST), max(float(positive.max()), SMALLEST)
    if math.log10(high / low) < 3:  # powers of ten alone would leave an axis with two numbers
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.yaxis.set_major_formatter(_power)
    axes.yaxis.set_minor_formatter(NullFormatter())


def _power(value: float, _place: object) -> str:
    """A power of ten. matplotlib's own formatters write it in its language for formulas, which is not read here."""
    return f"10{str(round(math.log10(value))).translate(SUPERSCRIPTS)}" if value > 0 else ""


def _line(axes: Axes, line: Line, colour: str, stroke: object, *, shaded: bool, logarithmic: bool) -> Line2D:
    """Draws the line, with a dot where no neighbour makes it one."""
    line = line.without_single() if shaded else line
    kept = np.abs(line.y) <= LARGEST  # false for NaN
    if logarithmic:
        kept &= line.y > 0
    y = np.where(kept, line.y, np.nan)
    beside = np.concatenate([[False], kept, [False]])
    alone = np.flatnonzero(kept & ~beside[:-2] & ~beside[2:]).tolist()
    if shaded and line.low is not None and line.high is not None:
        low, high = (np.where(np.abs(each) <= LARGEST, each, np.nan) for each in (line.low, line.high))
        if np.array_equal(line.low, line.high, equal_nan=True):  # every point, behind a smoothed line
            axes.plot(line.x, low, color=colour, linewidth=0.7, alpha=0.35)
        else:
            axes.fill_between(line.x, low, high, color=colour, alpha=0.18, linewidth=0)
    [drawn] = axes.plot(
        line.x, y, color=colour, linestyle=stroke, linewidth=1.4, marker="o" if alone else "", markevery=alone,
        markersize=4,
        solid_capstyle="round",
    )  # fmt: skip
    odd = np.flatnonzero(~np.isfinite(line.y))
    if len(odd):
        axes.axvline(float(line.x[odd[0]]), color=colour, linewidth=1, linestyle=(0, (1, 2)))
    return drawn


def _name(line: Line, *, logarithmic: bool) -> str:
    """What the legend calls a line, with what the drawing cannot show of it."""
    odd = np.flatnonzero(~np.isfinite(line.y))
    name = fitted(line.name, LONGEST_NAME)
    if len(odd):
        value = line.y[odd[0]]
        name += f" ({'NaN' if np.isnan(value) else 'infinite'} at {line.x[odd[0]]:.6g})"
    if logarithmic and (below := int((line.y <= 0).sum())):
        name += f" (without {below} at 0 or below)"
    return f" {name}" if name.startswith("_") else name  # matplotlib hides names that begin so


def _legend(axes: Axes, handles: list[Line2D], names: list[str]) -> Legend | None:
    if not handles or names == [axes.get_ylabel()]:
        return None
    if len(names) <= INSIDE:
        return axes.legend(handles, names, loc="best", framealpha=0.85, edgecolor="none", fontsize=9, handlelength=2.2)
    if len(names) > MOST_NAMES:
        left_out = len(names) - MOST_NAMES
        handles = [*handles[:MOST_NAMES], Line2D([], [], linestyle="")]
        names = [*names[:MOST_NAMES], f"and {left_out} more"]
    _legend_beside(axes, handles, names)
    return None


def _legend_beside(axes: Axes, handles: Sequence[Artist], names: Sequence[str]) -> None:
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0}
    axes.legend(handles, names, **place, fontsize=7.5, frameon=False, handlelength=2.2)


def _uncover(figure: Figure, legends: Sequence[Legend]) -> None:
    """Moves legends out of the axes where they would hide a part of a line."""
    if legends:
        figure.draw_without_rendering()  # only now it is known where everything is
    for legend in legends:
        place = legend.get_window_extent()
        lines = (line.get_transform().transform_path(line.get_path()) for line in legend.axes.get_lines())
        bands = (
            band.get_transform().transform_path(path) for band in legend.axes.collections for path in band.get_paths()
        )
        crossed = any(path.intersects_bbox(place, filled=False) for path in lines)
        if crossed or any(path.intersects_bbox(place) for path in bands):
            names = [text.get_text() for text in legend.get_texts()]
            _legend_beside(legend.axes, [handle for handle in legend.legend_handles if handle is not None], names)


def _kept(values: Floats) -> Floats:
    kept: Floats = values[np.abs(values) <= LARGEST]
    return kept


def _is_wide(values: Floats) -> bool:
    return len(values) > 0 and bool(values.min() > 0) and math.log10(values.max()) - math.log10(values.min()) > DECADES


def fitted(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

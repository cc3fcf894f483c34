"""Charts of curves, drawn by plotext with axes and labels of our own."""

import math
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from service.charts import scales
from service.charts.lettering import escaped, fitted, paragraph
from service.charts.scales import Scale
from service.curves.rollups import Floats, Integers

SMALLEST, WIDEST = 20, 400  # characters in a line
LOWEST = 8  # lines of a drawing
MARKERS = "*o+x#@%&=$abcdefghijklmnpqrstuvwyzABCDEFGHIJKLMNPQRSTUVWYZ"
LARGEST = 1e300  # what is larger is drawn no more than an infinity is: the span of the axis would overflow
DECADES = 2  # positive values that span more are drawn on a logarithmic scale

# plotext draws on one figure for the whole process.
_drawing = threading.Lock()


class Line(NamedTuple):
    """One curve of a chart. x, y: shape (n,) each; where one is not finite the line has a gap."""

    name: str
    x: Integers | Floats
    y: Floats


class _Stroke(NamedTuple):
    """What is drawn of a line: shape (n,) each, all finite; `begins` where no line leads here from the point before."""

    x: Floats
    y: Floats
    begins: NDArray[np.bool_]


def line_chart(
    lines: Sequence[Line], width: int = 80, height: int = 20, title: str = "", x_label: str = "", y_label: str = ""
) -> str:
    """Curves over each other, and below them which is which. No line of the answer is longer than `width`.

    width: 20 to 400 characters. height: lines of the drawing with its axes, at least 8. A lone curve is drawn finely,
    with all its extremes; several have a marker each, and are averaged over the width of a character. The y axis is
    logarithmic when all values are positive and span more than two decades.
    """
    width, height = min(max(width, SMALLEST), WIDEST), max(height, LOWEST)
    strokes = [_stroke(line) for line in lines]
    x, y = (np.concatenate([np.empty(0), *(stroke[axis] for stroke in strokes)]) for axis in (0, 1))
    head = [escaped(title)] if title else []
    if len(y) == 0:
        return _page([*head, "no points to draw", *_notes(lines, x_label, width)], width)

    logarithmic = bool(y.min() > 0 and math.log10(y.max()) - math.log10(y.min()) > DECADES)
    if logarithmic:
        strokes, y = [stroke._replace(y=np.log10(stroke.y)) for stroke in strokes], np.log10(y)
    if y_label:
        head.append(escaped(y_label) + (", logarithmic" if logarithmic else ""))
    y_scale = (scales.logarithmic if logarithmic else scales.linear)(float(y.min()), float(y.max()), height // 4)
    whole = all(np.asarray(line.x).dtype.kind == "i" for line in lines)
    left, right = _left_end(float(x.min()), float(x.max())), float(x.max())
    x_scale = scales.linear(left, right, width // 12, exact=True, whole=whole)
    columns = max(width - max(map(len, y_scale.labels)) - 2, 1)
    if len(strokes) == 1:
        strokes, markers = [_thinned(strokes[0], x_scale, 2 * columns)], ["braille"]
    else:
        strokes, markers = [_averaged(stroke, x_scale, columns) for stroke in strokes], list(MARKERS)
    body = _drawn(strokes, markers, x_scale, y_scale, width, height)
    foot = [escaped(x_label).rjust(width)] if x_label else []
    return _page([*head, *body, *foot, *_legend(lines, width), *_notes(lines, x_label, width)], width)


def _left_end(low: float, high: float) -> float:
    """Zero when the first point is close to it: steps begin at 1."""
    return 0.0 if 0 < low <= high / 20 else low


def _stroke(line: Line) -> _Stroke:
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    drawn = (np.abs(x) <= LARGEST) & (np.abs(y) <= LARGEST)  # false for NaN
    before = np.concatenate([[False], drawn[:-1]])
    return _Stroke(x[drawn], y[drawn], ~before[drawn])


def _thinned(stroke: _Stroke, scale: Scale, columns: int) -> _Stroke:
    """Of the points that share a column, one after the other, the first, the lowest, the highest and the last."""
    columns_of = _columns(stroke, scale, columns)
    starts = np.flatnonzero(np.diff(columns_of, prepend=-1) != 0)
    stops = np.append(starts[1:], len(columns_of))
    kept = {
        index
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        for index in (
            start,
            start + int(stroke.y[start:stop].argmin()),
            start + int(stroke.y[start:stop].argmax()),
            stop - 1,
        )
    }
    chosen = np.union1d(sorted(kept), np.flatnonzero(stroke.begins))
    return _Stroke(*(column[chosen] for column in stroke))


def _averaged(stroke: _Stroke, scale: Scale, columns: int) -> _Stroke:
    """The mean point of each column, from left to right; an upright line stays one."""
    if len(stroke.x) == 0 or np.ptp(stroke.x) == 0:
        return stroke
    _, where = np.unique(_columns(stroke, scale, columns), return_inverse=True)
    counts = np.bincount(where)
    x, y = (np.bincount(where, column / counts[where]).astype(np.float64) for column in (stroke.x, stroke.y))
    return _Stroke(x, y, np.bincount(where, stroke.begins) > 0)


def _columns(stroke: _Stroke, scale: Scale, columns: int) -> Integers:
    shares = (stroke.x - scale.low) / (scale.high - scale.low)
    return np.minimum((shares * columns).astype(np.int64), columns - 1)


def _drawn(
    strokes: Sequence[_Stroke], markers: Sequence[str], x_scale: Scale, y_scale: Scale, width: int, height: int
) -> list[str]:
    """The lines of text of the framed drawing. Where strokes cross, the first one is seen."""
    import plotext  # half a second, which a process that draws nothing does not pay

    with _drawing:
        figure = plotext.figure
        figure.clear()
        plotext.terminal.limit(False, False)
        figure.theme("colorless")
        figure.plot_size(width, height)
        for index, stroke in reversed(list(enumerate(strokes))):
            if len(stroke.x):
                signal = figure.signal(stroke.x.tolist(), stroke.y.tolist(), marker=markers[index % len(markers)])
                signal.lines(True)
                for begin in np.flatnonzero(stroke.begins).tolist():
                    signal.line(begin, False)
                figure.draw(signal)
        for axis, scale in ((0, x_scale), (1, y_scale)):
            ruler = figure.ruler(axis, 0)
            ruler.lim(scale.low, scale.high)
            ruler.ticks(scale.ticks, scale.labels)
        text: str = figure.build().string(colorless=True)
    return text.splitlines()


def _legend(lines: Sequence[Line], width: int) -> Iterator[str]:
    """Markers and names, as many to a line as fit. A lone curve needs no marker."""
    if len(lines) == 1:
        yield f"  {escaped(lines[0].name)}"
        return
    row = ""
    for index, line in enumerate(lines):
        entry = f"{MARKERS[index % len(MARKERS)]} {fitted(escaped(line.name), width - 4)}"
        if row and cell_len(row) + 3 + cell_len(entry) > width - 2:
            yield row
            row = ""
        row = f"{row}   {entry}" if row else f"  {entry}"
    yield row


def _notes(lines: Sequence[Line], x_label: str, width: int) -> Iterator[str]:
    """What the drawing cannot show."""
    for line in lines:
        odd = np.flatnonzero(~np.isfinite(line.y))
        if len(odd):
            place = f"{x_label or 'x'} {line.x[odd[0]]:.6g}"
            note = f"{line.name or 'values'}: {len(odd)} not finite, the first at {place}"
            yield from paragraph(note, width).splitlines()


def _page(lines: Sequence[str], width: int) -> str:
    return "".join(f"{fitted(line.rstrip(), width)}\n" for line in lines if line.strip())

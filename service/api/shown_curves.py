"""Curves of a run as JSON, tables, text, pictures and columns of a file."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from fastapi import Response

from service import charts, curves
from service.api import formats
from service.api.answers import Json, columns_once
from service.api.formats import Format
from service.curves import Axis, Curve
from service.pictures import CurveFile, Line, Panel, Picture
from service.states import Direction
from service.subjects import Subject

CURVE_TABLE = ["metric", "step", "x", "y", "min", "max"]
X_LABELS = {
    Axis.STEP: "step",
    Axis.EPOCH: "epoch",
    Axis.SAMPLES: "training samples seen",
    Axis.TIME: "training time (s)",
    Axis.GPU_SECONDS: "GPU time (s)",
}
MOST_PANELS = 6


def tabular(
    subject: Subject, read: dict[str, Curve], form: Format, axis: Axis, smoothing: float, width: int
) -> Response:
    if form is Format.TEXT:
        return formats.text(_chart(subject, read, axis, smoothing, width))
    if form is Format.CSV:
        return formats.table(CURVE_TABLE, _rows(subject, read, axis, smoothing), form, width)
    views = [view(name, curve, subject, axis, smoothing) for name, curve in read.items()]
    if form is Format.NDJSON:
        return formats.lines(views)
    # Written once, though the points of a lone curve stand in the answer twice.
    written = [each | {"points": columns_once(each["points"])} for each in views]
    alone = written[0] if len(written) == 1 else {}
    return Json({"run_id": subject.id, **alone, "data": written})


def view(metric: str, curve: Curve, subject: Subject, axis: Axis, smoothing: float) -> dict[str, Any]:
    """What users see of a curve: columns of the same length."""
    return {
        "metric": metric,
        "x": axis.value,
        "count": curve.count,
        "downsampled": curve.downsampled,
        "beside": beside(curve),
        "points": columns(curve, along(subject, axis, curve), smoothed(curve, smoothing)),
    }


def along(subject: Subject, axis: Axis, curve: Curve) -> Any:
    return subject.counting.along(axis, curve.step, curve.time)


def columns(curve: Curve, x: Any, y: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "step": curve.step, "min": curve.min, "max": curve.max}


def beside(curve: Curve) -> list[int]:
    """The places of the points that stand beside buckets: whoever draws the means as a line leaves them out."""
    return np.flatnonzero(curve.beside).tolist() if curve.downsampled else []


def smoothed(curve: Curve, weight: float) -> Any:
    return curves.smooth(curve.value, weight, curve.weight > 0)


def _rows(subject: Subject, read: dict[str, Curve], axis: Axis, smoothing: float) -> formats.Rows:
    rows: list[tuple[formats.Cell, ...]] = []
    for name, curve in read.items():
        x, y = along(subject, axis, curve), smoothed(curve, smoothing)
        table = (column.tolist() for column in (curve.step, x, y, curve.min, curve.max))
        rows += [(name, *row) for row in zip(*table, strict=True)]
    return rows


def drawing(
    subject: Subject, read: dict[str, Curve], form: Format, axis: Axis, smoothing: float, log: bool | None
) -> Picture | CurveFile:
    if form is Format.PARQUET:
        parts = [columns(curve, along(subject, axis, curve), smoothed(curve, smoothing)) for curve in read.values()]
        metrics = [name for name, curve in read.items() for _ in curve.step]
        return CurveFile({"metric": metrics, **joined(parts)})
    panels = [
        Panel(
            [line(name, read[name], along(subject, axis, read[name]), smoothing) for name in names],
            charts.escaped(_label(names)),
            logarithmic(log, names),
        )
        for names in _panels(read)
    ]
    form_word: Literal["png", "svg"] = "png" if form is Format.PNG else "svg"
    return Picture(charts.escaped(subject.name), panels, X_LABELS[axis], form_word)


def _panels(names: Iterable[str]) -> list[list[str]]:
    """The metrics that are drawn over each other: what is of one kind, or everything where there are too many kinds."""
    panels: dict[str, list[str]] = {}
    for name in names:
        panels.setdefault(_unit(name), []).append(name)
    every = list(panels.values())
    return every if len(every) <= MOST_PANELS else [[name for panel in every for name in panel]]


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The columns of several curves behind one another."""
    names = ("x", "y", "step", "min", "max")
    return {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in names} | {
        "step": np.concatenate([np.empty(0, np.int64), *(part["step"] for part in parts)])
    }


def line(name: str, curve: Curve, x: Any, smoothing: float) -> Line:
    """With the extremes of its buckets; of a smoothed curve that shows every point, with these."""
    y = smoothed(curve, smoothing)
    return Line(charts.escaped(name), x, y, *surroundings(curve, smoothed=smoothing > 0))


def surroundings(curve: Curve, *, smoothed: bool) -> tuple[Any, Any, Any]:
    """(low, high, beside): of the line in a picture. All None where it shows every point as it is."""
    if not (curve.downsampled or smoothed):
        return None, None, None
    return curve.min, curve.max, curve.beside


def logarithmic(log: bool | None, metrics: Iterable[str]) -> bool | None:
    """Whether the y axis of a picture is logarithmic; None for where that helps, which is not with scores: what is
    better the more it is, is looked at near its upper end, and a logarithm makes that small.
    """
    scores = any(curves.direction(metric) is Direction.MAX for metric in metrics)
    return False if log is None and scores else log


def _label(names: list[str]) -> str:
    """Of the y axis of a panel."""
    units = {_unit(name) for name in names}
    return names[0] if len(names) == 1 else units.pop() if len(units) == 1 else "value"


def _unit(metric: str) -> str:
    """What metrics that are drawn over each other have in common: losses, or shares between 0 and 1."""
    last = metric.replace("/", "_").rpartition("_")[2]
    return "score" if last in SHARES else last


SHARES = frozenset(("accuracy", "recall", "precision", "f1", "acc"))


def _chart(subject: Subject, read: dict[str, Curve], axis: Axis, smoothing: float, width: int) -> str:
    headers = ["metric", "points", "first", "last", "min", "max"]
    rows = [_summary_row(name, curve) for name, curve in read.items()]
    parts = [
        charts.line_chart(
            [charts.Line(name, along(subject, axis, read[name]), smoothed(read[name], smoothing)) for name in names],
            width,
            title="" if place else subject.name,
            x_label=X_LABELS[axis],
            y_label=", ".join(names),
        )
        for place, names in enumerate(_panels(read))
    ]
    return "\n".join([*parts, charts.table(headers, rows, width)])


def _summary_row(name: str, curve: Curve) -> list[formats.Cell]:
    if curve.count == 0:
        return [name, 0, None, None, None, None]
    finite = curve.min[curve.weight > 0], curve.max[curve.weight > 0]
    low, high = (float(finite[0].min()), float(finite[1].max())) if len(finite[0]) else (None, None)
    return [name, curve.count, float(curve.value[0]), float(curve.value[-1]), low, high]

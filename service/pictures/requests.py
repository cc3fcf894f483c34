"""What is asked of the process that makes pictures: plain data, nothing of matplotlib."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Line:
    """One curve: shape (n,) each; where y is not finite the line has a gap, and the legend says so. All texts print.

    low, high: what is shown lightly around it, the extremes of buckets or the interval of a mean. beside: which of the
    points are single ones beside buckets; where the surroundings are drawn these show them, and a line through means
    would dive to them.
    """

    name: str
    x: Integers | Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    beside: NDArray[np.bool_] | None = None

    def without_single(self) -> "Line":
        """Without the finite points that stand beside buckets."""
        if self.beside is None or self.low is None or self.high is None:
            return self
        kept = ~self.beside | ~np.isfinite(self.y)
        return Line(self.name, self.x[kept], self.y[kept], self.low[kept], self.high[kept])


@dataclass(frozen=True, eq=False)
class Panel:
    """Curves over one pair of axes. log: whether y is logarithmic; None where that helps. target: a line across."""

    lines: Sequence[Line]
    y_label: str
    log: bool | None = None
    target: float | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """Panels above each other that share x."""

    title: str
    panels: Sequence[Panel]
    x_label: str
    form: Literal["png", "svg"]


@dataclass(frozen=True, eq=False)
class CurveFile:
    """Columns of equal length for a Parquet file: arrays, or lists of texts."""

    columns: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ReportPicture:
    """The report of a study of some kind, as the study keeps it."""

    kind: str
    report: Mapping[str, Any]
    title: str
    form: Literal["png", "svg"]


Wanted = Picture | ReportPicture | CurveFile

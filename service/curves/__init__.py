"""The curve store: append, cut back, summarise and read curves of any length in milliseconds."""

from service.curves.appending import Batch, PositionMismatch, append, append_all
from service.curves.axes import Axis, Counting
from service.curves.buckets import Curve
from service.curves.cutting import cut
from service.curves.merging import merge
from service.curves.reading import read, read_all
from service.curves.smoothing import smooth
from service.curves.summaries import Summary, direction, find, summaries

__all__ = [
    "Axis",
    "Batch",
    "Counting",
    "Curve",
    "PositionMismatch",
    "Summary",
    "append",
    "append_all",
    "cut",
    "direction",
    "find",
    "merge",
    "read",
    "read_all",
    "smooth",
    "summaries",
]

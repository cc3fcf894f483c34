"""Curves with every point, as long as they are: a window at a time, so that any length takes the same memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from service.api.answers import encode
from service.api.formats import Format, to_csv
from service.curves import Axis, Summary, stored
from service.curves.rollups import Floats, Integers
from service.curves.stored import Points
from service.database import Database
from service.errors import FieldProblem, InvalidInput
from service.subjects import Subject

WINDOW = 16_384  # points read at once, in a transaction of their own
HELD = 16 * WINDOW  # points of a curve that is kept while it is sent: 8 MiB
STREAMED = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv; header=present",
}
HEADERS = ["metric", "step", "x", "y", "min", "max"]


@dataclass(frozen=True)
class Whole:
    """What is streamed: curves of one run, over an axis, between two steps, both included."""

    database: Database
    subject: Subject
    summaries: dict[str, Summary | None]
    axis: Axis
    first: int
    last: int

    def windows(self, summary: Summary | None) -> Iterator[Points]:
        """The points in order of logging. A curve that is cut back meanwhile ends early."""
        for start in range(0, 0 if summary is None else summary.count, WINDOW):
            assert summary is not None
            with self.database.read() as session:
                found = stored.points(session, summary.series, start, min(start + WINDOW, summary.count))
            yield found.where((found.steps >= self.first) & (found.steps <= self.last))

    def x(self, points: Points) -> Integers | Floats:
        return self.subject.counting.along(self.axis, points.steps, points.times)


def require_plain(form: Format, smoothing: float) -> None:
    """Raises InvalidInput for what needs the whole curve at once."""
    found = []
    if form not in STREAMED:
        words = ", ".join(each.value for each in STREAMED)
        found.append(FieldProblem("points", "not_streamed", f"all points come as {words}; thinned ones in any format"))
    if smoothing:
        found.append(FieldProblem("smooth", "not_streamed", "all points come as they are"))
    if found:
        raise InvalidInput(found)


def stream(whole: Whole, form: Format) -> Iterator[bytes]:
    """JSON as curves with columns; CSV and JSON lines with a row for each point."""
    whole.subject.counting.along(whole.axis, np.empty(0, np.int64), np.empty(0))  # before anything is sent
    if form is Format.JSON:
        return _json(whole)
    return _csv(whole) if form is Format.CSV else _lines(whole)


def _csv(whole: Whole) -> Iterator[bytes]:
    yield to_csv(HEADERS, []).encode()
    for metric, summary in whole.summaries.items():
        name = to_csv([metric], []).rstrip().encode()  # a name may need quotes, or to be kept from being a formula
        for points in whole.windows(summary):
            rows = []
            for step, x, y in _rows(whole, points):
                said = y.strip(b'"')
                rows.append(b"%b,%b,%b,%b,%b,%b\r\n" % (name, step, x, said, said, said))
            yield b"".join(rows)


def _lines(whole: Whole) -> Iterator[bytes]:
    for metric, summary in whole.summaries.items():
        name = encode(metric)
        for points in whole.windows(summary):
            rows = (b'{"metric":%b,"step":%b,"x":%b,"y":%b}\n' % (name, *row) for row in _rows(whole, points))
            yield b"".join(rows)


def _rows(whole: Whole, points: Points) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Step, x and value of each point as JSON has them: written at once, in a third of the time of one by one."""
    columns = (points.steps, whole.x(points), points.values) if len(points.steps) else ()
    return zip(*(encode(column)[1:-1].split(b",") for column in columns), strict=True)


def _json(whole: Whole) -> Iterator[bytes]:
    yield b'{"run_id":' + encode(whole.subject.id)
    if len(whole.summaries) == 1:
        [(metric, summary)] = whole.summaries.items()
        yield b"," + b"".join(_head(whole, metric, summary))
        yield from _columns(whole, summary)
    else:
        yield b',"data":['
        for place, (metric, summary) in enumerate(whole.summaries.items()):
            yield (b",{" if place else b"{") + b"".join(_head(whole, metric, summary))
            yield from _columns(whole, summary)
            yield b"}"
        yield b"]"
    yield b"}"


def _head(whole: Whole, metric: str, summary: Summary | None) -> Iterator[bytes]:
    count = 0 if summary is None else summary.count
    if summary is not None and (whole.first, whole.last) != EVERYTHING:
        count = sum(len(points.steps) for points in whole.windows(summary))
    facts: dict[str, object] = {
        "metric": metric,
        "x": whole.axis.value,
        "count": count,
        "downsampled": False,
        "beside": [],
    }
    yield encode(facts)[1:-1]


EVERYTHING = (-(2**63), 2**63 - 1)


def _columns(whole: Whole, summary: Summary | None) -> Iterator[bytes]:
    """One column after the other. Of a curve that is too long to be held back, each is read anew."""
    columns: dict[str, Callable[[Points], Integers | Floats]] = {
        "x": whole.x,
        "y": lambda points: points.values,
        "step": lambda points: points.steps,
        "min": lambda points: points.values,
        "max": lambda points: points.values,
    }
    held = None if summary is not None and summary.count > HELD else list(whole.windows(summary))
    yield b',"points":{'
    for place, (name, column) in enumerate(columns.items()):
        yield (b"," if place else b"") + encode(name) + b":["
        begun = False
        for points in whole.windows(summary) if held is None else held:
            if len(points.steps):
                yield (b"," if begun else b"") + encode(column(points))[1:-1]
                begun = True
        yield b"]"
    yield b"}"


def summaries(found: dict[str, Summary], names: list[str]) -> dict[str, Summary | None]:
    """In the order asked for; None for a curve that has not begun."""
    return {name: found.get(name) for name in names}

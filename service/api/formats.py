"""The form of an answer: which one was asked for, and tables as CSV, as JSON lines and as text."""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request, Response

from service import charts
from service.api.answers import Json, encode

Cell = str | int | float | bool | None
Rows = Sequence[Sequence[Cell]]

DEFUSED = ("=", "+", "-", "@", "\t", "\r", "\n")


class Format(Enum):
    JSON = "json"
    CSV = "csv"
    NDJSON = "ndjson"
    TEXT = "text"
    PNG = "png"
    SVG = "svg"
    PARQUET = "parquet"


# What a list, which is no curve, has too.
TABULAR = (Format.JSON, Format.CSV, Format.NDJSON, Format.TEXT)

MEDIA_TYPES = {
    "application/json": Format.JSON,
    "text/csv": Format.CSV,
    "application/x-ndjson": Format.NDJSON,
    "application/ndjson": Format.NDJSON,
    "text/plain": Format.TEXT,
}
DRAWN_TYPES = {
    "image/png": Format.PNG,
    "image/svg+xml": Format.SVG,
    "application/vnd.apache.parquet": Format.PARQUET,
}
PICTURE_TYPES = MEDIA_TYPES | {name: form for name, form in DRAWN_TYPES.items() if form is not Format.PARQUET}
# A picture opened by itself may use the styles within it, and nothing else.
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"


async def wanted_format(
    request: Request,
    given: Annotated[
        Literal["json", "csv", "ndjson", "text"] | None,
        Query(alias="format", description="instead of the header Accept"),
    ] = None,
) -> Format:
    """`?format=` first, then the weightiest media type of Accept that is known, else JSON."""
    return accepted(request, MEDIA_TYPES) if given is None else Format(given)


async def wanted_drawing(
    request: Request,
    given: Annotated[Format | None, Query(alias="format", description="instead of the header Accept")] = None,
) -> Format:
    """The same for curves, which also come as pictures and as Parquet."""
    return given or accepted(request, MEDIA_TYPES | DRAWN_TYPES)


def accepted(request: Request, known: dict[str, Format]) -> Format:
    """The weightiest of the known media types, else JSON."""
    return next((known[name] for name in preferred(request) if name in known), Format.JSON)


def preferred(request: Request) -> list[str]:
    """The media types of Accept, those of more weight first (RFC 9110, section 12.5.1)."""
    weighed = []
    for part in request.headers.get("accept", "").lower().split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        weight = next((_weight(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
        weighed.append((weight, name))
    return [name for weight, name in sorted(weighed, key=lambda each: -each[0]) if weight > 0]


def _weight(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.[0-9]{0,3})?", text) else 1.0


Wanted = Annotated[Format, Depends(wanted_format)]
WantedDrawing = Annotated[Format, Depends(wanted_drawing)]
Width = Annotated[int, Query(ge=20, le=400, description="characters a line of a text answer may have")]


def listing(
    items: list[dict[str, Any]],
    limit: int,
    form: Format,
    headers: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    width: int,
    key: str = "id",
) -> Response:
    """A page of a list. items: one more than `limit` when there are more. headers, rows: the same for tables.

    key: what the next page begins behind; also told in the header `X-Next-After`, since CSV has no place for it.
    """
    shown, last = items[:limit], items[limit - 1][key] if len(items) > limit else None
    answer: Response
    if form is Format.JSON:
        answer = Json({"data": shown, "has_more": last is not None, "next_after": last})
    elif form is Format.NDJSON:
        answer = lines(shown)
    elif form is Format.CSV:
        answer = table(headers, list(islice(rows, limit)), form, width)
    else:
        more = "" if last is None else f"… there are more: after={last}\n"
        answer = text(charts.table(headers, list(islice(rows, limit)), width) + more)
    if last is not None:
        answer.headers["X-Next-After"] = str(last)
    return answer


def lines(items: Iterable[dict[str, Any]]) -> Response:
    """One JSON object a line."""
    return Response(b"".join(encode(item) + b"\n" for item in items), media_type="application/x-ndjson")


def table(headers: Sequence[str], rows: Rows, form: Format, width: int) -> Response:
    """A table as CSV or as aligned text."""
    if form is Format.CSV:
        return Response(to_csv(headers, rows), media_type="text/csv; charset=utf-8; header=present")
    return text(charts.table(headers, rows, width))


def drawn(content: bytes, form: Format) -> Response:
    """A picture, or a Parquet file."""
    [media_type] = [name for name, known in DRAWN_TYPES.items() if known is form]
    return Response(content, headers={"Content-Security-Policy": PICTURE_POLICY}, media_type=media_type)


def text(content: str) -> Response:
    return Response(content if content.endswith("\n") else content + "\n", media_type="text/plain; charset=utf-8")


def to_csv(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """RFC 4180. Text that a spreadsheet would take for a formula gets an apostrophe; numbers stay as they are."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([_csv_cell(header) for header in headers])
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def _csv_cell(cell: Cell) -> str | int | float:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str):
        return f"'{cell}" if cell.startswith(DEFUSED) else cell
    return number_word(cell)


def number_word(number: float) -> str | int | float:
    """The number, or the word that JSON answers use for it when it is not finite."""
    if isinstance(number, float) and not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return number

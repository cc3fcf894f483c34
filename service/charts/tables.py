"""Tables of aligned text."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from service.charts.lettering import escaped, fitted, not_finite

NARROW = 12  # cells that a column of texts keeps when the table is too wide
GAP = "  "

Cell = str | int | float | bool | None


class _Column(NamedTuple):
    texts: list[str]  # the header first
    numbers: bool
    width: int
    whole: bool  # numbers and ids say something else when they are cut

    def line(self, index: int) -> str:
        text = fitted(self.texts[index], self.width)
        padding = " " * (self.width - cell_len(text))
        return padding + text if self.numbers else text + padding


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], width: int = 80) -> str:
    """Columns two spaces apart below their headers and a rule; a cell of None is a dash.

    Numbers stand to the right, floats with five significant digits, or four to six where a column's decimals align.
    When lines would be longer than `width`, the longest texts but ids are shortened first; then columns on the right
    are left out, and a last line says how many.
    """
    columns = [_column(header, [row[index] for row in rows]) for index, header in enumerate(headers)]
    columns, left_out = _fitting(columns, width)
    lines = [GAP.join(column.line(index) for column in columns) for index in range(len(rows) + 1)]
    rule = GAP.join("─" * column.width for column in columns)
    note = [fitted(f"… columns left out: {left_out}", width)] if left_out else []
    return "".join(f"{line.rstrip()}\n" for line in [lines[0], rule, *lines[1:], *note])


def _column(header: str, cells: Sequence[Cell]) -> _Column:
    given = [cell for cell in cells if cell is not None]
    numbers = bool(given) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in given)
    decimals = _decimals([cell for cell in given if isinstance(cell, float) and math.isfinite(cell)])
    texts = [escaped(header), *(_text(cell, decimals) for cell in cells)]
    return _Column(texts, numbers, max(map(cell_len, texts)), numbers or header == "id" or header.endswith("_id"))


def _text(cell: Cell, decimals: int | None) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str):
        return escaped(cell)
    if isinstance(cell, int):
        return str(cell)
    if not math.isfinite(cell):
        return not_finite(cell)
    return f"{cell:.5g}" if decimals is None else f"{cell:.{decimals}f}"


def _decimals(values: Sequence[float]) -> int | None:
    """How many decimals show a column of measured values alike; None where each is better off by itself.

    That is for round numbers, such as learning rates, and for values too far apart.
    """
    sizes = [abs(value) for value in values if value != 0]
    if not sizes or all(value == float(f"{value:.3g}") for value in values):
        return None
    digits = math.floor(math.log10(max(sizes)))
    return 4 - digits if -3 <= digits <= 4 and min(sizes) >= 10.0 ** (digits - 2) else None


def _fitting(columns: list[_Column], width: int) -> tuple[list[_Column], int]:
    """The columns that fit into a line, and how many do not."""
    kept = list(columns)
    while kept:
        excess = sum(column.width for column in kept) + len(GAP) * (len(kept) - 1) - width
        if excess <= 0:
            break
        longest = max((column.width for column in kept if not column.whole), default=0)
        if longest > NARROW:
            index = next(i for i, column in enumerate(kept) if not column.whole and column.width == longest)
            kept[index] = kept[index]._replace(width=longest - 1)
        elif len(kept) > 1:
            kept.pop()
        else:
            kept[0] = kept[0]._replace(width=width)
    return kept, len(columns) - len(kept)

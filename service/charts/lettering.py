"""Texts and numbers as they stand in charts and tables: printable, and no wider than there is room."""

import math
import textwrap
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

UNITS = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))  # from which size on, what divides it, its letter


def escaped(text: str) -> str:
    """The text with all that does not print (control characters, text direction, line ends) as `\\x1b` and the like."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def short_names(names: Sequence[str]) -> list[str]:
    """The last part of each dotted name, unless two have it in common."""
    last = [name.rpartition(".")[2] for name in names]
    return [name if last.count(short) > 1 else short for name, short in zip(names, last, strict=True)]


def fitted(text: str, width: int) -> str:
    """The text, its end replaced by an ellipsis when it takes more than `width` cells of a terminal."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def paragraph(sentence: str, width: int, first: str = "", further: str = "  ") -> str:
    """The sentence in lines of at most `width` characters, each ended. first, further: what the lines begin with."""
    lines = textwrap.wrap(
        escaped(sentence), width, initial_indent=first, subsequent_indent=further, break_on_hyphens=False
    )
    return "".join(f"{line}\n" for line in lines)


def not_finite(value: float) -> str:
    """The word that JSON answers use."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def tick_labels(ticks: Sequence[float], step: float) -> list[str]:
    """The numbers of ticks that are `step` apart, with the digits that tell them apart and one unit for all."""
    size = max(step, *(abs(tick) for tick in ticks))
    if size >= 1e12 or step < 1e-4:
        digits = max(0, math.floor(math.log10(size)) - math.floor(math.log10(step) - 0.5))
        return [_scientific(tick, digits) for tick in ticks]
    unit, suffix = next(((unit, suffix) for least, unit, suffix in UNITS if size >= least), (1.0, ""))
    decimals = next(digits for digits in range(20) if math.isclose(round(step / unit, digits), step / unit))
    texts = [f"{tick / unit:.{decimals}f}" for tick in ticks]
    return ["0" if float(text) == 0 else text + suffix for text in texts]


def _scientific(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return "0" if float(mantissa) == 0 else f"{mantissa}e{int(exponent)}"

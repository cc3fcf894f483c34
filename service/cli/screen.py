"""How answers are shown to people: texts without control characters, numbers, times and tables."""

import json
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 240  # columns when nobody looks: wide enough that no cell is cut
TEXT_WIDTH = 120  # of what the service draws, when nobody looks
WIDEST_TEXT = 400  # that the service draws
LONG = 1e9  # from which on the digits of a number take more room than they tell
UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))

# A name or a log line could otherwise move the cursor, or answer questions of the terminal.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

AsJson = Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")]


class WrongUse(Exception):
    """What was typed cannot be done; the sentence says why."""


def clean(text: str) -> str:
    """Control characters made visible; line feeds and tabs stay."""
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: str) -> None:
    typer.echo(clean(text.rstrip("\n")))


def complain(text: str) -> None:
    typer.echo(clean(text), err=True)


def say_json(value: Any, *, lines: bool = False) -> None:
    """For programs: indented, or one line a value."""
    say(json.dumps(value, ensure_ascii=False, indent=None if lines else 2))


def console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def width() -> int:
    """Characters of a line that the service is to draw: the terminal's, or else as many as most windows show."""
    return min(max(console().width, 40), WIDEST_TEXT) if sys.stdout.isatty() else TEXT_WIDTH


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]], *, right: Iterable[str] = ()) -> "Table":
    """A table without lines. right: the columns with numbers."""
    from rich.table import Table
    from rich.text import Text

    right = set(right)
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column == "id",
            overflow="fold" if column == "id" else "ellipsis",
        )
    for row in rows:
        made.add_row(*(Text(clean(str(cell))) for cell in row))
    return made


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Lines of a name and a value; those without a value are left out."""
    shown = [(name, str(value)) for name, value in pairs if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{name:<{width}}  {value}")


def number(value: Any) -> str:
    """Four significant digits; the service writes what is not finite as a text."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if 10_000 <= abs(value) < LONG else f"{value:.4g}"


def value(given: Any) -> str:
    """Of a spec, as it would be written there."""
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def count(value: int) -> str:
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """The two largest units, as in `2 h 5 min`."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    parts: list[str] = []
    for unit, length in UNITS:
        amount, rest = divmod(rest, length)
        if amount or parts:
            parts.append(f"{amount} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def age(moment: str) -> str:
    """How long ago an RFC 3339 time was, in its largest unit."""
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    unit, length = next((each for each in UNITS if seconds >= each[1]), UNITS[-1])
    return f"{seconds // length} {unit}"

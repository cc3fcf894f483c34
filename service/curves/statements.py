"""The words of statements about many curves and many points."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.orm import Session

from service.driver import write

ROWS_AT_ONCE = 100
AT_ONCE = 500  # values in one statement: SQLite takes at most 32,766 parameters


def insert(session: Session, into: str, columns: Sequence[list[Any]]) -> None:
    """Inserts many rows, a hundred to a statement: a third faster than one to each.

    into: the table and, in brackets, its columns. columns: the values of each, equally many.
    """
    width, count = len(columns), len(columns[0])
    cells: list[Any] = [None] * (width * count)
    for place, column in enumerate(columns):
        cells[place::width] = column
    row = f"({marks(columns)})"
    whole = count // ROWS_AT_ONCE * ROWS_AT_ONCE
    for many, first, last in ((ROWS_AT_ONCE, 0, whole), (1, whole, count)):
        statement = f"INSERT INTO {into} VALUES {', '.join([row] * many)}"  # noqa: S608
        starts = range(first * width, last * width, many * width)
        write(session, statement, (cells[start : start + many * width] for start in starts))


def marks(values: Sequence[Any]) -> str:
    """Placeholders for the values of an IN list."""
    return ", ".join("?" * len(values))


def tuples(width: int, values: Sequence[Any]) -> str:
    """Placeholders for the rows of a VALUES, so many values in each."""
    return ", ".join([f"({', '.join('?' * width)})"] * len(values))


def parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Stretches of the values that fit in one statement."""
    return (values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE))

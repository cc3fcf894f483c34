"""SQL handed to the driver as it is, for the few statements whose speed matters. Points do not become objects here."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.orm import Session

AT_ONCE = 500  # values in one statement: SQLite takes at most 32,766 parameters


def rows(session: Session, statement: str, parameters: Sequence[Any]) -> list[Any]:
    """All rows as the driver's tuples: SQLAlchemy's own rows would double the time of a read."""
    result = session.connection().exec_driver_sql(statement, tuple(parameters))
    found: list[Any] = result.cursor.fetchall()  # type: ignore[union-attr]
    result.close()
    return found


def write(session: Session, statement: str, parameters: list[tuple[Any, ...]]) -> None:
    """Runs a statement once for each of the parameters; not at all when there are none."""
    if parameters:
        session.connection().exec_driver_sql(statement, parameters)


def marks(values: Sequence[Any]) -> str:
    """Placeholders for the values of an IN list."""
    return ", ".join("?" * len(values))


def parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Stretches of the values that fit in one statement."""
    return (values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE))

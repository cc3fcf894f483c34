"""SQL handed to the driver as it is, for the few statements whose speed matters. Points do not become objects here."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

AT_ONCE = 500  # values in one statement: SQLite takes at most 32,766 parameters


def rows(session: Session, statement: str, parameters: Sequence[Any]) -> Sequence[Any]:
    """All rows as the driver's tuples: SQLAlchemy's own rows would double the time of a read."""
    result = session.connection().exec_driver_sql(statement, tuple(parameters))
    found = result.cursor.fetchall()
    result.close()
    return found


def write(session: Session, statement: str, parameters: Iterable[tuple[Any, ...]]) -> None:
    """Runs a statement once for each of the parameters, which may be produced as they are needed.

    Raises what SQLAlchemy would, a DBAPIError.
    """
    connection = session.connection()
    cursor = connection.connection.cursor()
    try:
        # SQLAlchemy would copy the parameters into lists, which takes as long as SQLite does.
        cursor.executemany(statement, parameters)  # type: ignore[arg-type]
    except Exception as error:
        raise DBAPIError.instance(statement, None, error, connection.dialect.loaded_dbapi.Error) from error
    finally:
        cursor.close()


def marks(values: Sequence[Any]) -> str:
    """Placeholders for the values of an IN list."""
    return ", ".join("?" * len(values))


def parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Stretches of the values that fit in one statement."""
    return (values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE))

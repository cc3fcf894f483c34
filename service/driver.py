"""SQL handed to the driver as it is, for the few statements whose speed matters.

SQLAlchemy's way to the rows takes as long as SQLite does. What is raised here is what it would raise, a DBAPIError.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import Select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session


def rows(session: Session, statement: str, parameters: Sequence[Any] | dict[str, Any]) -> list[Any]:
    """All rows as the driver's tuples."""
    with _cursor(session, statement) as cursor:
        found: list[Any] = cursor.execute(statement, parameters).fetchall()
    return found


def write(session: Session, statement: str, parameters: Iterable[Sequence[Any]]) -> None:
    """Runs a statement once for each of the parameters, which may be produced as they are needed."""
    with _cursor(session, statement) as cursor:
        # SQLAlchemy would copy the parameters into lists, which takes as long as SQLite does.
        cursor.executemany(statement, parameters)


@contextmanager
def _cursor(session: Session, statement: str) -> Iterator[Any]:
    connection = session.connection()
    try:
        with closing(connection.connection.cursor()) as cursor:
            yield cursor
    except Exception as error:
        raise DBAPIError.instance(statement, None, error, connection.dialect.loaded_dbapi.Error) from error


class Kept:
    """A query that is put together once, when its module is imported, and then asked with other values each time."""

    def __init__(self, query: Select[*tuple[Any, ...]]) -> None:
        """query: its `bindparam`s take plain values; what else it compares with stays as it is."""
        dialect = sqlite.dialect(paramstyle="named")
        compiled = query.compile(dialect=dialect)
        self._text = str(compiled)
        self._constants: dict[str, Any] = {}
        for bound, name in compiled.bind_names.items():
            if not bound.required:
                stored = bound.type.dialect_impl(dialect).bind_processor(dialect)
                self._constants[name] = bound.value if stored is None else stored(bound.value)

    def rows(self, session: Session, **values: Any) -> list[Any]:
        """All rows as the driver's tuples: columns are as they are stored. values: of the `bindparam`s."""
        return rows(session, self._text, self._constants | values)

"""One SQLite file, two doors: `write()` takes the write lock at once, `read()` never waits for it.

It does not know the tables. Only SQLite opens the file: another open() in this process would drop its locks.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service.errors import DatabaseDamaged

SAFE_SQLITE = (3, 51, 3)  # the first release of its line in which a WAL reset loses no commit
SAFE_BACKPORTS = {(3, 50, 7), (3, 44, 6)}
BUSY_MILLISECONDS = 5000
# SQLite's own wait looks ever more seldom, up to 100 ms apart, so that who waits longest is served last.
TRY_MILLISECONDS = 3
PATIENCE_SECONDS = 0.5


def sqlite_module() -> Any:
    """The newer of Python's own SQLite and pysqlite3's."""
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        return sqlite3
    return dbapi2 if dbapi2.sqlite_version_info > sqlite3.sqlite_version_info else sqlite3


def sqlite_warning() -> str | None:
    """A sentence when this SQLite can lose acknowledged commits, else None."""
    version = sqlite_module().sqlite_version_info
    if version >= SAFE_SQLITE or version in SAFE_BACKPORTS:
        return None
    return (
        f"SQLite {'.'.join(map(str, version))} has a bug that can lose a commit when its write-ahead log restarts; "
        "install pysqlite3, or SQLite 3.51.3 or newer"
    )


class Database:
    """The engines of one process. Never carried over a fork."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Threads of this process queue here in turn: SQLite's own lock has no queue, so a busy thread starves the rest.
        self._writing = threading.Lock()
        self.writer = self._engine(query_only=False)
        self.reader = self._engine(query_only=True)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; commits at the end of the block, rolls back on any exception."""
        with self._writing, Session(self.writer, expire_on_commit=False) as session, session.begin():
            # A deferred transaction that reads and then writes fails at once with SQLITE_BUSY_SNAPSHOT,
            # whatever the busy timeout; the engine's BEGIN IMMEDIATE waits its turn.
            session.connection()
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view of the database; anything written through it is refused by SQLite."""
        with Session(self.reader, autoflush=False) as session:
            yield session

    def watch(self) -> "Watcher":
        """Tells when anybody has committed, without reading a table."""
        return Watcher(self.reader)

    def check(self) -> None:
        """Raises DatabaseDamaged unless SQLite finds the whole file in order."""
        try:
            with self.read() as session:
                verdict = session.connection().exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        except Exception as error:
            raise self._damaged() from error
        if verdict != "ok":
            raise self._damaged()

    def is_writable(self) -> bool:
        """Whether the write lock can be had now; does not wait as long as `write` would."""
        if not self._writing.acquire(timeout=PATIENCE_SECONDS):
            return False
        try:
            connection = sqlite_module().connect(str(self.path), isolation_level=None, timeout=PATIENCE_SECONDS)
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            finally:
                connection.close()
        except Exception:
            return False
        finally:
            self._writing.release()
        return True

    def close(self) -> None:
        self.writer.dispose()
        self.reader.dispose()

    def _damaged(self) -> DatabaseDamaged:
        return DatabaseDamaged(
            f"{self.path} is damaged and was left as it is; put a good copy in its place, "
            f"with no {self.path.name}-wal and {self.path.name}-shm beside it"
        )

    def _engine(self, *, query_only: bool) -> Engine:
        module = sqlite_module()
        engine = create_engine(
            f"sqlite:///{self.path}",
            module=module,
            connect_args={"check_same_thread": False, "timeout": BUSY_MILLISECONDS / 1000, "cached_statements": 256},
            pool_size=8,
            max_overflow=64,
            json_serializer=None,
        )

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # the driver would open deferred transactions of its own
            for pragma in (
                f"busy_timeout={BUSY_MILLISECONDS if query_only else TRY_MILLISECONDS}",
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
                f"journal_size_limit={64 << 20}",
                "mmap_size=0",
                f"query_only={'ON' if query_only else 'OFF'}",
            ):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            if query_only:
                connection.exec_driver_sql("BEGIN")
            else:
                _begin_immediate(connection)

        return engine


def _begin_immediate(connection: Any) -> None:
    """Takes the write lock, trying again every few milliseconds. Raises OperationalError when it cannot be had."""
    deadline = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except OperationalError:
            if time.monotonic() > deadline:
                raise
        else:
            return


class Watcher:
    """Asks SQLite's counter of commits: cheap enough to ask many times a second. Keeps a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.raw_connection()
        self._seen: int | None = None

    def changed(self) -> bool:
        """Whether a commit came since the last call; the first call says yes."""
        version: int = self._connection.cursor().execute("PRAGMA data_version").fetchone()[0]
        before, self._seen = self._seen, version
        return before is None or before != version

    def close(self) -> None:
        self._connection.close()

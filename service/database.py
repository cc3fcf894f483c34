"""One SQLite file, two doors: `write()` takes the write lock at once, `read()` never waits for it.

It does not know the tables. Only SQLite opens the file: another open() in this process would drop its locks.
"""

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session

from service import disk
from service.errors import CopyFailed, DatabaseDamaged, DatabaseUnusable

SAFE_SQLITE = (3, 51, 3)  # the first release of its line in which a WAL reset loses no commit
SAFE_BACKPORTS = {(3, 50, 7), (3, 44, 6)}
BUSY_MILLISECONDS = 5000
# SQLite's own wait looks ever more seldom, up to 100 ms apart, so that who waits longest is served last.
TRY_MILLISECONDS = 3
PATIENCE_SECONDS = 0.5
DEADLINE = "deadline"  # by `time.monotonic`: among a connection's options, until when it tries to begin to write
MOST_LOG_BYTES = 64 << 20
# To take a connection from the pool, begin a session with it and give it back takes as long as a small question.
KEPT_READERS = 8
PAGES_AT_ONCE = 4096  # of a copy, which can be interrupted in between
SQLITE_FULL, SQLITE_DAMAGED = 13, (11, 26)  # CORRUPT and NOTADB: sqlite.org/rescode.html


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
        self._readers: deque[Session] = deque()  # each with a connection of its own, between one reading and the next

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; commits at the end of the block, rolls back on any exception.

        Raises OperationalError when the write lock cannot be had in time.
        """
        deadline = time.monotonic() + BUSY_MILLISECONDS / 1000
        with (
            self._turn(deadline),
            _letting_go(self.path),
            Session(self.writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            # A deferred transaction that reads and then writes fails at once with SQLITE_BUSY_SNAPSHOT,
            # whatever the busy timeout; the engine's BEGIN IMMEDIATE waits its turn.
            session.connection(execution_options={DEADLINE: deadline})
            yield session

    @contextmanager
    def _turn(self, deadline: float) -> Iterator[None]:
        """Waits while another thread writes. Whoever has waited long enough goes on, to hear that SQLite is busy.

        To wait for SQLite only from then on would take many threads, one after the other, five seconds each.
        """
        mine = self._writing.acquire(timeout=max(0.0, deadline - time.monotonic()))
        try:
            yield
        finally:
            if mine:
                self._writing.release()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view of the database; anything written through it is refused by SQLite."""
        try:
            session = self._readers.pop()
        except IndexError:
            session = Session(self.reader.connect(), autoflush=False)
        try:
            yield session
        finally:
            session.close()  # ends the view; a session may be used again
            if len(self._readers) < KEPT_READERS:
                self._readers.append(session)
            else:
                _part_with(session)

    def watch(self) -> "Watcher":
        """Tells when anybody has committed, without reading a table."""
        return Watcher(self.reader)

    def check(self) -> None:
        """Raises DatabaseDamaged unless SQLite finds the whole file in order, DatabaseUnusable if it cannot look."""
        try:
            with self.read() as session:
                verdict = session.connection().exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        except DatabaseError as error:
            if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in SQLITE_DAMAGED:
                raise self._damaged() from error
            raise DatabaseUnusable(self.path, str(error.orig)) from error
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

    @property
    def log_bytes(self) -> int:
        """Size of the write-ahead log. It grows while anybody holds an old view of the database."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def trim_log(self) -> None:
        """Empties a write-ahead log that has grown too large, unless somebody still reads from it."""
        if self.log_bytes <= MOST_LOG_BYTES:
            return
        with closing(sqlite_module().connect(str(self.path), isolation_level=None, timeout=PATIENCE_SECONDS)) as opened:
            # The first does the work and holds up nobody; the second, which keeps writers waiting, finds it done. It
            # would wait in vain for whoever reads an old view, for which the first has left something.
            _, written, moved = opened.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if moved == written:
                opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        while self._readers:
            _part_with(self._readers.pop())
        self.writer.dispose()
        self.reader.dispose()

    def _damaged(self) -> DatabaseDamaged:
        return DatabaseDamaged(
            f"{self.path} is damaged and was left as it is: put a backup in its place with `trainbox restore FILE`"
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
                f"journal_size_limit={MOST_LOG_BYTES}",
                "mmap_size=0",
                f"query_only={'ON' if query_only else 'OFF'}",
            ):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            if query_only:
                # By the driver: SQLAlchemy's way to it takes ten times as long as SQLite does.
                connection.connection.driver_connection.execute("BEGIN")
            else:
                usual = time.monotonic() + BUSY_MILLISECONDS / 1000
                _begin_immediate(connection, connection.get_execution_options().get(DEADLINE, usual))

        return engine


def copy(source: Path, target: Path) -> None:
    """Copies a database as it is at this moment, whoever else uses it, into a new file: checked, and on the disk.

    Raises CopyFailed, and then leaves no file.
    """
    module = sqlite_module()
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        with (
            closing(module.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as origin,
            closing(module.connect(str(target), isolation_level=None)) as copied,
        ):
            # Within one view: SQLite would begin again whenever another process has committed between two steps.
            origin.execute("BEGIN")
            origin.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            origin.backup(copied, pages=PAGES_AT_ONCE)
            copied.execute("PRAGMA journal_mode=DELETE")  # all of it in this one file
            verdict = copied.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise CopyFailed(f"the copy of {source} is not in order: {verdict}")
        sync(target)
    except module.Error as error:
        target.unlink()
        raise CopyFailed(f"{source} could not be copied: {error}") from error
    except BaseException:
        target.unlink()
        raise


def sync(path: Path) -> None:
    """Returns when a file, or the entries of a folder, are on the disk. Never for a database that is open."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _part_with(reader: Session) -> None:
    """Gives the connection of a reading session back to the pool."""
    connection = reader.get_bind()
    assert isinstance(connection, Connection)
    connection.close()


@contextmanager
def _letting_go(path: Path) -> Iterator[None]:
    """Lets go of the reserve beside the database when its disk is full, so that the next transaction finds room."""
    try:
        yield
    except Exception as error:
        if getattr(getattr(error, "orig", error), "sqlite_errorcode", 0) & 0xFF == SQLITE_FULL:
            disk.release_reserve(path.parent)
        raise


def _begin_immediate(connection: Any, deadline: float) -> None:
    """Takes the write lock, trying again every few milliseconds. Raises OperationalError when it cannot be had."""
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
        """Whether a commit came since the last call; the first call says yes, and so does one that cannot look."""
        try:
            version: int = self._connection.cursor().execute("PRAGMA data_version").fetchone()[0]
        except sqlite_module().OperationalError:  # who asks may wait for the next call all his life: he goes and sees
            return True
        before, self._seen = self._seen, version
        return before is None or before != version

    def close(self) -> None:
        self._connection.close()

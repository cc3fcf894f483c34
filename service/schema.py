"""Which revision the database is at, and how it gets to this program's."""

from contextlib import closing
from functools import cache
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session

from service.database import Database, copy as copy_database, sqlite_module, sync
from service.errors import DatabaseUnusable, SchemaMismatch


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(config())


def config() -> Config:
    """Alembic's, with the revisions that came with this program."""
    made = Config()
    made.set_main_option("script_location", str(files("migrations")))
    return made


def newest() -> str:
    """The revision that this program works with."""
    head = _scripts().get_current_head()
    assert head is not None
    return head


def revision(session: Session) -> str | None:
    """The revision that the database is at; None for an empty one."""
    return _revision(session.connection())


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def require_current(database: Database) -> None:
    """Raises SchemaMismatch unless the database is at this program's revision, DatabaseDamaged or DatabaseUnusable."""
    if not database.path.exists():
        raise SchemaMismatch(f"there is no database at {database.path}: run `trainbox migrate` first")
    try:
        with database.read() as session:
            found = revision(session)
    except DatabaseError as error:
        if isinstance(error, OperationalError):
            raise DatabaseUnusable(database.path, str(error.orig)) from error
        database.check()
        raise
    if found == newest():
        return
    if found is not None and not _known(found):
        raise _newer(database.path, found)
    raise SchemaMismatch(f"{database.path} is at revision {found or 'none'}: run `trainbox migrate` first")


def require_known(path: Path) -> str:
    """The revision of a database that this program can work with, perhaps after a migration.

    Raises SchemaMismatch for one that a newer program made, or that is none of trainbox.
    """
    module = sqlite_module()
    try:
        with closing(module.connect(str(path))) as opened:
            found = str(opened.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    except (module.Error, TypeError) as error:
        raise SchemaMismatch(f"{path} is not a database of trainbox") from error
    if not _known(found):
        raise _newer(path, found)
    return found


def migrate(database: Database) -> None:
    """Brings the database to this program's revision, in one transaction; a former one is copied beside it first.

    Two at once: the second waits for the first and finds nothing to do. Raises SchemaMismatch for a newer database
    and DatabaseDamaged for one that SQLite cannot read.
    """
    if database.path.exists() and database.path.stat().st_size > 0:
        database.check()
        with database.read() as session:
            found = revision(session)
        if found == newest():
            return
        if found is not None and not _known(found):
            raise _newer(database.path, found)
        if found is not None:
            _keep_copy(database.path, found)
    with database.write() as session:
        connection = session.connection()
        if _revision(connection) != newest():
            chosen = config()
            chosen.attributes["connection"] = connection
            command.upgrade(chosen, "head")


def _known(found: str) -> bool:
    return found in {script.revision for script in _scripts().walk_revisions()}


def _newer(path: Path, found: str) -> SchemaMismatch:
    return SchemaMismatch(f"{path} is at revision {found}, which a newer trainbox made: use that version")


def _keep_copy(path: Path, found: str) -> None:
    """SQLite's own backup: copying the file would miss what is still in the write-ahead log."""
    copy = path.with_name(f"{path.name}.before-{newest()}-was-{found}")
    unfinished = copy.with_name(copy.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    copy_database(path, unfinished)
    unfinished.rename(copy)
    sync(path.parent)

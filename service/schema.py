"""Which revision the database is at, and how it gets to this program's."""

import os
from functools import cache
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from service.database import Database, sqlite_module
from service.errors import SchemaMismatch


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    return config


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
    """Raises SchemaMismatch unless the database is at this program's revision."""
    if not database.path.exists():
        raise SchemaMismatch(f"there is no database at {database.path}: run `trainbox migrate` first")
    with database.read() as session:
        found = revision(session)
    if found == newest():
        return
    if found is not None and not _known(found):
        raise _newer(database.path, found)
    raise SchemaMismatch(f"{database.path} is at revision {found or 'none'}: run `trainbox migrate` first")


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
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _known(found: str) -> bool:
    return found in {script.revision for script in _scripts().walk_revisions()}


def _newer(path: Path, found: str) -> SchemaMismatch:
    return SchemaMismatch(f"{path} is at revision {found}, which a newer trainbox made: use that version")


def _keep_copy(path: Path, found: str) -> None:
    """SQLite's own backup: copying the file would miss what is still in the write-ahead log."""
    copy = path.with_name(f"{path.name}.before-{newest()}-was-{found}")
    unfinished = copy.with_name(copy.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    module = sqlite_module()
    source, target = module.connect(str(path)), module.connect(str(unfinished))
    try:
        source.backup(target)
    finally:
        target.close()
        source.close()
    descriptor = os.open(unfinished, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    unfinished.rename(copy)

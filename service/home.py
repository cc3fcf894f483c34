"""The folder where all state lives: made, migrated and furnished before anything starts."""

import errno
import os
from pathlib import Path

from sqlalchemy.exc import OperationalError

from service import datasets, disk, locks, projects, schema, users
from service.database import Database
from service.errors import DatabaseUnusable, HomeUnusable
from service.settings import Settings

PROBE = bytes(4096)  # a file without content is made on a full disk too


def prepare(settings: Settings) -> str | None:
    """Makes the home ready for this program: folders, schema, the admin and the built-in data sets.

    Safe to repeat, and to be killed at any point. Returns the admin's token when this call made it, to be shown
    once. Raises HomeUnusable, SchemaMismatch, DatabaseDamaged or DatabaseUnusable.
    """
    make_private_folders(settings)
    with locks.one_at_a_time(settings.run_path, "prepare"):
        database = Database(settings.database_path)
        try:
            schema.migrate(database)
            with database.write() as session:
                projects.ensure_default(session)
            datasets.furnish(database, settings.datasets_path)
            disk.keep_reserve(settings.home, settings.min_free_mib)
            return users.ensure_admin(database, settings.token_path)
        except OperationalError as error:  # locked by another program, or on a disk that is full
            raise DatabaseUnusable(settings.database_path, str(error.orig)) from error
        finally:
            database.close()


def make_private_folders(settings: Settings) -> None:
    """The home and its rooms, for the service's user alone, whatever the umask."""
    os.umask(0o077)
    try:
        rooms = (settings.datasets_path, settings.uploads_path, settings.jobs_path, settings.run_path)
        for path in (settings.home, *rooms):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(path.stat().st_mode & 0o700)  # what its user may not do is left so
        _require_writable(settings.home)
    except OSError as error:
        raise HomeUnusable(settings.home, error.strerror or "it cannot be written") from error


def _require_writable(home: Path) -> None:
    """Raises OSError. On a full disk the reserve goes: only through a service that runs can people make room."""
    probe = home / ".writable"
    try:
        probe.write_bytes(PROBE)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not disk.has_reserve(home):
            raise
        disk.release_reserve(home)
        probe.write_bytes(PROBE)
    finally:
        probe.unlink(missing_ok=True)  # two may begin at once

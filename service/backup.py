"""The database as one file: made while the service runs, and put back while it does not.

A backup holds users, tokens' hashes, jobs, runs and curves; what lies in files of its own, it does not hold: arrays of
data sets, logs and checkpoints.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from service import clock, crew, home, locks, schema
from service.database import copy, sqlite_module, sync
from service.errors import AlreadyRunning, CopyFailed, SchemaMismatch, WrongFile
from service.settings import Settings

BUSY, LOCKED = 5, 6  # sqlite.org/rescode.html


def save(settings: Settings, file: Path, *, force: bool) -> str:
    """Writes a backup; the revision that it is at. To be called in a process of its own: it may take a while.

    force: in the place of a file that is there. Raises SchemaMismatch, WrongFile or CopyFailed, and then has changed
    nothing.
    """
    database = settings.database_path
    if not database.exists():
        raise SchemaMismatch(f"there is no database at {database}")
    if file.is_dir():
        raise WrongFile(f"{file} is a folder: name a file in it")
    if _is_of(database, file):
        raise WrongFile(f"{file} is the database itself: name another file")
    if not file.absolute().parent.is_dir():
        raise WrongFile(f"there is no folder {file.absolute().parent}")
    if file.exists() and not force:
        raise WrongFile(f"{file} is there already: --force replaces it")
    with _failing_as(file):
        # In a folder of its own, so that SQLite's files beside the unfinished one go with it.
        room = Path(mkdtemp(prefix=f".{file.name}.", dir=file.absolute().parent))
        unfinished = room / file.name
        try:
            copy(database, unfinished)
            revision = schema.require_known(unfinished)
            if force:
                unfinished.replace(file)
            else:
                os.link(unfinished, file)  # unlike a rename, never in the place of another
            sync(file.absolute().parent)
        finally:
            shutil.rmtree(room, ignore_errors=True)
    return revision


@dataclass(frozen=True)
class Restored:
    """revision: that of the backup, before the migration. kept: where the database lies that was replaced."""

    revision: str
    kept: Path | None


def restore(settings: Settings, file: Path) -> Restored:
    """Puts a backup in the place of the home's database, and makes the home ready for this program.

    Raises AlreadyRunning while any part of the service runs, SchemaMismatch for a backup of a newer version, CopyFailed
    for a damaged one and WrongFile for none at all, and then has changed nothing; what is there is kept beside.
    """
    database = settings.database_path
    if not file.is_file():
        raise WrongFile(f"there is no file {file}")
    if _is_of(database, file):
        raise WrongFile(f"{file} is the database itself, not a backup")
    home.make_private_folders(settings)
    with _stopped(settings.run_path):
        staged = database.with_name(f"{database.name}.restoring")
        with locks.one_at_a_time(settings.run_path, "prepare"), _failing_as(database):
            staged.unlink(missing_ok=True)
            copy(file, staged)
            try:
                revision = schema.require_known(staged)
                kept = _keep(database)
                _require_no_worker(settings.run_path)
                staged.replace(database)
                sync(database.parent)
                _keep_arrays(settings, kept)
            finally:
                staged.unlink(missing_ok=True)
        home.prepare(settings)
    return Restored(revision, kept)


def _keep(database: Path) -> Path | None:
    """Gives the database a second, dated name, and takes its write-ahead log and index away from the first.

    Left there, SQLite would play the log of the one database into the other.
    """
    log, index = (database.with_name(f"{database.name}{end}") for end in ("-wal", "-shm"))
    kept = None
    if database.exists():
        moment = clock.now().replace(":", "").replace("-", "")
        kept = database.with_name(f"{database.name}.replaced-{moment}")
        whole = _fold(database)
        os.link(database, kept)
        if not whole and log.exists():
            log.rename(kept.with_name(f"{kept.name}-wal"))
    for path in (log, index):
        path.unlink(missing_ok=True)
    return kept


def _keep_arrays(settings: Settings, kept: Path | None) -> None:
    """Moves the data sets that only the replaced database knows out of the way: the next start would remove them."""
    with closing(sqlite_module().connect(str(settings.database_path))) as opened:
        known = {row[0] for row in opened.execute("SELECT id FROM datasets")}
    strangers = [path for path in settings.datasets_path.iterdir() if path.name not in known]
    if kept is None or not strangers:
        return
    place = settings.home / f"{settings.datasets_path.name}{kept.name.removeprefix(settings.database_path.name)}"
    place.mkdir(mode=0o700)
    for path in strangers:
        path.rename(place / path.name)


def _fold(database: Path) -> bool:
    """Moves what is in the write-ahead log into the database; False when SQLite cannot read it.

    Raises CopyFailed while another program has it open.
    """
    module = sqlite_module()
    in_use = CopyFailed(f"another program has {database} open: end it first")
    try:
        with closing(module.connect(str(database), isolation_level=None)) as opened:
            if opened.execute("PRAGMA journal_mode=DELETE").fetchone()[0] != "delete":
                raise in_use
    except module.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (BUSY, LOCKED):
            raise in_use from error
        return False
    return True


@contextmanager
def _stopped(run_path: Path) -> Iterator[None]:
    """Keeps the service from starting. Raises AlreadyRunning when any part of it runs."""
    with ExitStack() as held:
        for role in ("serve", "api"):
            held.enter_context(locks.hold_role(run_path, role))
        _require_no_worker(run_path)
        yield


def _require_no_worker(run_path: Path) -> None:
    for path in run_path.glob(crew.worker_lock(run_path, "*").name):
        if locks.is_held(path):
            raise AlreadyRunning("worker", locks.holder(path))


def _is_of(database: Path, file: Path) -> bool:
    """Whether the file is the database or one of the two beside it."""
    beside = (database.with_name(f"{database.name}{end}") for end in ("", "-wal", "-shm"))
    return file.exists() and any(path.exists() and path.samefile(file) for path in beside)


@contextmanager
def _failing_as(path: Path) -> Iterator[None]:
    """What the operating system refuses, as CopyFailed."""
    try:
        yield
    except OSError as error:
        raise CopyFailed(f"{path}: {error.strerror}") from error

"""How a home and its database come into being, and what happens when they are damaged, shared, newer or read-only."""

import json
import os
import random
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from alembic.command import upgrade
from conftest import Until
from sqlalchemy import create_engine, func, insert, select, text
from sqlalchemy.exc import NoResultFound, OperationalError
from sqlalchemy.orm import Session

from service import curves, database as database_module, datasets, home, schema
from service.curves import rollups, stored
from service.database import MOST_LOG_BYTES, SAFE_SQLITE, Database, sqlite_module, sqlite_warning
from service.errors import DatabaseDamaged, DatabaseUnusable, SchemaMismatch
from service.settings import Settings
from service.states import Direction
from service.tables import Dataset, Project, Run, Series, Table, Token, User, WorkerRow

TRAINBOX = [sys.executable, "-m", "service.cli"]
KILLED_MIGRATIONS = 4
KILLED_PREPARATIONS = 2
LONGEST_PREPARATION = 1.5


def environment(folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRAINBOX_")}
    return inherited | {"TRAINBOX_HOME": str(folder), "TRAINBOX_PORT": "0"}


def trainbox(folder: Path, *arguments: str, program: list[str] = TRAINBOX) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program, *arguments], env=environment(folder), capture_output=True, text=True, timeout=60, check=False
    )


def refused(folder: Path, *arguments: str, program: list[str] = TRAINBOX) -> str:
    """What a command says on standard error that is to fail, in sentences and not in a traceback."""
    done = trainbox(folder, *arguments, program=program)
    assert done.returncode not in (0, None), done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def is_whole(path: Path) -> bool:
    connection = sqlite_module().connect(str(path))
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])
    finally:
        connection.close()


@contextmanager
def opened(path: Path) -> Iterator[Database]:
    database = Database(path)
    try:
        yield database
    finally:
        database.close()


def declarations(path: Path) -> dict[str, tuple[str, list[str], frozenset[str]]]:
    """Each table and index by name: its first words and last ones, its columns in order, and its constraints."""
    connection = sqlite_module().connect(str(path))
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: declaration(" ".join(sql.split())) for name, sql in rows if name != "alembic_version"}


def declaration(sql: str) -> tuple[str, list[str], frozenset[str]]:
    start, end = sql.index("("), sql.rindex(")")
    if not sql.startswith("CREATE TABLE"):
        return sql, [], frozenset()
    parts = top_level(sql[start + 1 : end])
    constraints = frozenset(part for part in parts if re.match(r"CONSTRAINT|PRIMARY|FOREIGN|UNIQUE|CHECK", part))
    frame = sql[:start].replace('"', "").strip() + sql[end + 1 :]
    return frame, [part for part in parts if part not in constraints], constraints


def top_level(text: str) -> list[str]:
    """The parts of a list that are separated by commas outside parentheses."""
    depth, parts = 0, [""]
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def test_the_migrations_build_the_declared_tables(tmp_path: Path) -> None:
    with opened(tmp_path / "migrated.db") as database:
        schema.migrate(database)
    declared = create_engine(f"sqlite:///{tmp_path / 'declared.db'}", module=sqlite_module())
    Table.metadata.create_all(declared)
    declared.dispose()
    migrated, wanted = declarations(tmp_path / "migrated.db"), declarations(tmp_path / "declared.db")
    assert migrated.keys() == wanted.keys()
    for name in wanted:
        assert migrated[name] == wanted[name], name


@pytest.mark.parametrize("count", [1, 2000])
def test_curves_of_the_first_revision_are_the_same_after_the_last(tmp_path: Path, count: int) -> None:
    steps, times = np.arange(count) * 3 - 5, np.arange(count) / 8
    values = np.sin(np.arange(count))
    values[count // 2] = np.nan
    points = rollups.of_points(np.arange(count), steps, values, times)
    with opened(tmp_path / "trainbox.db") as database:
        with database.write() as session:
            config = schema.config()
            config.attributes["connection"] = connection = session.connection()
            upgrade(config, "0001")
            connection.exec_driver_sql("INSERT INTO users VALUES ('ada', '', NULL)")
            connection.exec_driver_sql("INSERT INTO projects VALUES ('default', NULL, 'team', '')")
            run = {"seq": 1, "id": "run-00000001", "name": "", "project": "default", "user": "ada", "tags": {}}
            session.execute(insert(Run).values(run | {"parameters": {}, "created_at": ""}))
            summary = {"id": 7, "run": 1, "name": "loss", "direction": Direction.MIN, "count": count, "non_finite": 1}
            session.execute(insert(Series).values(summary))
            for row in zip(range(count), steps.tolist(), values.tolist(), times.tolist(), strict=True):
                connection.exec_driver_sql("INSERT INTO points VALUES (7, ?, ?, ?, ?)", row)
            for level, (first, records) in rollups.extend([rollups.Growth(0, {}, points)])[0].items():
                for start in range(0, len(records), 48):
                    block = (level, first + start // 48, records[start : start + 48].tobytes())
                    connection.exec_driver_sql("INSERT INTO rollups VALUES (7, ?, ?, ?)", block)
        schema.migrate(database)
        with database.write() as session:
            [found] = curves.find(session, [1])[1].values()
            whole = curves.read(session, found, 10_000)
            np.testing.assert_array_equal(whole.step, steps)
            np.testing.assert_array_equal(whole.value, values)
            np.testing.assert_array_equal(whole.time, times)
            assert curves.read(session, found, 100, 0, 3000).count == sum((steps >= 0) & (steps <= 3000))
            curves.append(session, 1, "loss", count, steps[-1:] + 1, np.ones(1), times[-1:])
            last = stored.records(session, 7, 1, count // rollups.FIRST, count // rollups.FIRST + 1)[-1]
            assert last["count"] == count % rollups.FIRST + 1


def test_a_migration_that_has_been_done_is_not_done_again(settings: Settings) -> None:
    before = settings.database_path.read_bytes()
    with opened(settings.database_path) as database:
        schema.migrate(database)
        schema.require_current(database)
    assert settings.database_path.read_bytes() == before
    assert [path.name for path in settings.home.glob("trainbox.db*")] == ["trainbox.db"], "nothing was worth a copy"


def test_a_home_that_is_not_migrated_says_what_to_run(tmp_path: Path) -> None:
    for part in ("api", "worker"):
        assert "trainbox migrate" in refused(tmp_path / "home", part)
    assert not (tmp_path / "home" / "trainbox.db").exists()


def damage(path: Path, how: str) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        if how == "header":
            file.write(random.Random(6).randbytes(100))
        elif how == "empty header":
            file.write(bytes(4096))
        elif how == "half of it":
            file.truncate(size // 2)
        elif how == "a page in the middle":
            file.seek(4096 * (size // 8192))
            file.write(random.Random(7).randbytes(4096))


@pytest.mark.parametrize("how", ["header", "empty header", "half of it", "a page in the middle"])
def test_a_damaged_database_is_found_and_left_as_it_is(settings: Settings, how: str) -> None:
    damage(settings.database_path, how)
    before = settings.database_path.read_bytes()
    with opened(settings.database_path) as database, pytest.raises(DatabaseDamaged):
        schema.migrate(database)
    assert settings.database_path.read_bytes() == before


def test_a_database_that_cannot_be_read_for_once_is_not_called_damaged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_MILLISECONDS", 300)
    with closing(sqlite_module().connect(str(settings.database_path), isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with opened(settings.database_path) as database, pytest.raises(DatabaseUnusable, match="locked"):
            database.check()
    with opened(settings.database_path) as database:
        database.check()


def test_a_start_while_another_program_writes_ends_in_a_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_MILLISECONDS", 100)
    with closing(sqlite_module().connect(str(settings.database_path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnusable, match=r"cannot be used now \(database is locked\)"):
            home.prepare(settings)
        other.execute("ROLLBACK")
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with opened(settings.database_path) as database, pytest.raises(DatabaseUnusable, match="locked"):
            schema.require_current(database)
    home.prepare(settings)


def test_nothing_starts_on_a_damaged_database_and_what_to_do_is_said(settings: Settings) -> None:
    damage(settings.database_path, "header")
    before = settings.database_path.read_bytes()
    for command in ("serve", "migrate", "api", "worker"):
        said = refused(settings.home, command)
        assert f"{settings.database_path} is damaged" in said
        assert "`trainbox restore FILE`" in said
    assert settings.database_path.read_bytes() == before


COMMIT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from service import clock, users
from service.database import Database
database = Database(Path(sys.argv[1]))
with database.write() as session:
    users.create(session, "grace")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("left", ["deleted", "from another boot"])
def test_what_was_committed_is_there_whatever_became_of_the_shared_memory(settings: Settings, left: str) -> None:
    died = subprocess.run([sys.executable, "-c", COMMIT_AND_DIE, str(settings.database_path)], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    memory = settings.database_path.with_name("trainbox.db-shm")
    assert memory.exists()
    if left == "deleted":
        memory.unlink()
    else:
        memory.write_bytes(random.Random(8).randbytes(32768))
    with opened(settings.database_path) as database:
        schema.migrate(database)
        schema.require_current(database)
        with database.read() as session:
            assert session.get(User, "grace") is not None
    assert is_whole(settings.database_path)


def make_older(path: Path) -> None:
    """A database as the first revision made it, with a user, a project and a worker that has long ended."""
    with opened(path) as database, database.write() as session:
        config = schema.config()
        config.attributes["connection"] = session.connection()
        upgrade(config, "0001")
        for row in (
            "users (name, created_at) VALUES ('grace', '2026-01-01T00:00:00Z')",
            "projects (name, owner, visibility, created_at) VALUES ('old', 'grace', 'team', '2026-01-01T00:00:00Z')",
            "workers (id, boot, pid, slots, devices, memory_mib, draining, lease_until, started_at)"
            " VALUES ('w', 'b', 1, 2, '[]', 100, 0, 0, '2026-01-01T00:00:00Z')",
        ):
            session.execute(text(f"INSERT INTO {row}"))


def check_migrated(path: Path) -> None:
    """The older database at this revision, with all that it held."""
    assert is_whole(path)
    with opened(path) as database, database.read() as session:
        schema.require_current(database)
        assert session.get_one(Project, "old").owner == "grace"
        worker = session.get_one(WorkerRow, "w")
        assert (worker.slots, worker.memory_mib, worker.out_of_service) == (2, 100, [])


def test_of_two_services_on_an_older_home_one_migrates_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    path = Settings(home=folder).database_path
    make_older(path)
    assert "trainbox migrate" in refused(folder, "worker")
    both = [subprocess.Popen([*TRAINBOX, "migrate"], env=environment(folder)) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    check_migrated(path)
    [copy] = folder.glob("trainbox.db.before-*-was-0001")
    with closing(sqlite_module().connect(str(copy))) as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
        assert kept.execute("SELECT owner FROM projects WHERE name = 'old'").fetchone() == ("grace",)


def test_of_two_services_started_at_once_on_an_older_home_one_migrates_and_the_other_goes(
    tmp_path: Path, until: Until
) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    path = Settings(home=folder).database_path
    make_older(path)
    command = [*TRAINBOX, "serve", "--port", "0"]
    both = [subprocess.Popen(command, env=environment(folder), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    until(lambda: any(process.poll() is not None for process in both))
    [gone] = [process for process in both if process.poll() is not None]
    [stays] = [process for process in both if process is not gone]
    assert f"(pid {stays.pid})" in gone.communicate(timeout=60)[1]
    assert gone.returncode == 1
    until(lambda: psutil.Process(stays.pid).children())
    stays.terminate()
    stays.communicate(timeout=60)
    assert stays.returncode == 0
    check_migrated(path)


def test_of_two_that_migrate_at_once_one_does_it_and_both_find_it_done(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    both = [
        subprocess.Popen([*TRAINBOX, "migrate"], env=environment(folder), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("shown this once" in each for each in said) == 1
    check_furnished(Settings(home=folder))


def check_furnished(settings: Settings) -> None:
    """A home after its first start, with one of everything."""
    assert is_whole(settings.database_path)
    with opened(settings.database_path) as database, database.read() as session:
        assert sorted(session.scalars(select(Dataset.name))) == sorted(datasets.BUILT_IN)
        assert session.scalars(select(User.name)).all() == ["admin"]
        assert session.scalars(select(Project.name)).all() == ["default"]
        assert session.scalars(select(func.count()).select_from(Token)).one() >= 1
        known = set(session.scalars(select(Dataset.id)))
        schema.require_current(database)
    assert {path.name for path in settings.datasets_path.iterdir()} == known
    assert stat.S_IMODE(settings.token_path.stat().st_mode) == 0o600


def test_a_database_of_a_newer_version_is_refused_by_every_part(settings: Settings) -> None:
    with opened(settings.database_path) as database, database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = settings.database_path.read_bytes()
    for command in ("serve", "api", "worker"):
        assert "revision 9999, which a newer trainbox made" in refused(settings.home, command)
    with opened(settings.database_path) as database, pytest.raises(SchemaMismatch):
        schema.migrate(database)
    assert settings.database_path.read_bytes() == before


MIGRATE = """
import sys
from pathlib import Path
from service import schema
from service.database import Database
schema.newest()
database = Database(Path(sys.argv[1]))
print("ready", flush=True)
schema.migrate(database)
"""


@contextmanager
def migrating(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that migrates a database and has just begun to."""
    with subprocess.Popen([sys.executable, "-c", MIGRATE, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("rounds", [KILLED_MIGRATIONS, pytest.param(20, marks=pytest.mark.chaos)])
def test_a_migration_that_is_killed_is_finished_by_the_next(tmp_path: Path, rounds: int, older: bool) -> None:
    chance = random.Random(12)
    path = tmp_path / "trainbox.db"
    if older:
        make_older(path)
    original = path.read_bytes() if older else None

    def begin_anew() -> None:
        for old in tmp_path.iterdir():
            old.unlink()
        if original is not None:
            path.write_bytes(original)

    begin_anew()
    with migrating(path) as process:
        began = time.monotonic()
        assert process.wait(60) == 0
        longest = time.monotonic() - began
    killed = 0
    for _ in range(rounds):
        begin_anew()
        with migrating(path) as process:
            kill_later(process, chance.uniform(0, longest))
            killed += process.wait(60) == -signal.SIGKILL
        assert not path.exists() or not path.stat().st_size or is_whole(path)
        with opened(path) as database:
            schema.migrate(database)
            schema.require_current(database)
        if older:
            check_migrated(path)
        assert is_whole(path)
    assert killed, "nothing was hit"


def kill_later(process: subprocess.Popen[bytes], seconds: float) -> None:
    """A moment of the dice's choice: there is nothing to wait for."""
    time.sleep(seconds)
    process.kill()


def test_a_first_start_that_is_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    chance = random.Random(14)
    folder = tmp_path / "home"
    for _ in range(KILLED_PREPARATIONS):
        with subprocess.Popen([*TRAINBOX, "migrate"], env=environment(folder), stdout=subprocess.DEVNULL) as process:
            kill_later(process, chance.uniform(LONGEST_PREPARATION / 3, LONGEST_PREPARATION))
    home.prepare(Settings(home=folder))
    check_furnished(Settings(home=folder))
    assert home.prepare(Settings(home=folder)) is None


# The superuser may write everywhere: without this capability the modes count for it too.
WITHOUT_PRIVILEGE = [
    sys.executable,
    "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'service.cli', *sys.argv[1:]])",
]


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_home_that_cannot_be_written_is_refused_with_what_to_set(settings: Settings, command: str) -> None:
    settings.home.chmod(0o500)
    try:
        said = refused(settings.home, command, program=WITHOUT_PRIVILEGE)
    finally:
        settings.home.chmod(0o700)
    assert f"{settings.home} cannot hold the service's data (Permission denied)" in said
    assert "TRAINBOX_HOME" in said


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    assert "cannot hold the service's data" in refused(tmp_path / "home", "migrate")


def test_nothing_in_a_home_is_for_others_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "home"
    subprocess.run(
        [*TRAINBOX, "migrate"], env=environment(folder), stdout=subprocess.DEVNULL, check=True, timeout=60, umask=0
    )
    found = [folder.parent, folder, *folder.rglob("*")]
    assert len(found) > 20
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_home_that_others_could_enter_is_closed_to_them(settings: Settings) -> None:
    for path in (settings.home, settings.jobs_path):
        path.chmod(0o777)
    home.make_private_folders(settings)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (settings.home, settings.jobs_path)} == {0o700}


WITH_PYTHONS_OWN_SQLITE = [
    sys.executable,
    "-c",
    "import sys; sys.modules['pysqlite3'] = None; from service.cli import main; main()",
]


@pytest.mark.skipif(sqlite3.sqlite_version_info >= SAFE_SQLITE, reason="Python's own SQLite has the fix here")
def test_an_old_sqlite_is_told_of_once_at_the_start_and_by_the_doctor(settings: Settings) -> None:
    finding = f"SQLite {sqlite3.sqlite_version} has a bug that can lose a commit when its write-ahead log restarts"
    done = trainbox(settings.home, "doctor", "--json", program=WITH_PYTHONS_OWN_SQLITE)
    [found] = [check for check in json.loads(done.stdout) if check["name"] == "sqlite"]
    assert (found["verdict"], found["finding"]) == ("warn", finding)
    assert "3.51.3" in found["advice"]
    command = [*WITH_PYTHONS_OWN_SQLITE, "serve"]
    with subprocess.Popen(command, env=environment(settings.home), stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stderr is not None
        lines = [serving.stderr.readline()]
        serving.terminate()
        lines += serving.stderr.readlines()
    assert lines[0].startswith(f"warning: {finding}: ")
    assert sum(finding in line for line in lines) == 1


def test_the_sqlite_in_use_is_named_only_when_it_can_lose_a_commit() -> None:
    version = sqlite_module().sqlite_version_info
    assert (sqlite_warning() is None) == (version >= SAFE_SQLITE or version in {(3, 50, 7), (3, 44, 6)})


def test_a_commit_waits_for_the_disk_and_every_connection_keeps_the_rules(database: Database) -> None:
    full = 2  # of `synchronous`: a commit that was answered survives a power cut
    rules = {"synchronous": full, "journal_mode": "wal", "foreign_keys": 1, "mmap_size": 0}
    rules["journal_size_limit"] = MOST_LOG_BYTES
    for engine, reads_only in ((database.writer, 0), (database.reader, 1)):
        with engine.connect() as connection:
            found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in (*rules, "query_only")}
        assert found == rules | {"query_only": reads_only}


def test_a_reading_has_one_view_and_the_next_one_sees_what_was_committed_meanwhile(database: Database) -> None:
    def users(session: Session) -> int:
        return session.scalar(select(func.count()).select_from(User)) or 0

    with ExitStack() as readings:
        views = [readings.enter_context(database.read()) for _ in range(20)]
        assert [users(view) for view in views] == [1] * 20
        with database.write() as session:
            session.add(User(name="ada", created_at=""))
        assert [users(view) for view in views] == [1] * 20
    for _ in range(20):
        with database.read() as session:
            assert users(session) == 2
    with pytest.raises(NoResultFound), database.read() as session:
        session.execute(select(User).where(User.name == "nobody")).one()
    # Nobody is left with an old view, which would keep the log from being emptied.
    with closing(sqlite_module().connect(str(database.path))) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    with database.read() as session, pytest.raises(OperationalError):
        session.execute(insert(User).values(name="bob", created_at=""))

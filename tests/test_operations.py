"""Running the service for months: backups, full disks, old files, and what monitoring is told."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import shelves
from boxes import digits, submit, worker
from conftest import Serve, Until
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from service import backup, clock, control, crew, curves, datasets, disk, home, intake, leases, locks, queue, retention
from service.api import housekeeping
from service.database import MOST_LOG_BYTES, Database, sqlite_module
from service.errors import AlreadyRunning, CopyFailed, HomeUnusable, SchemaMismatch, WrongFile
from service.jobs import attempt_folder
from service.queue import QueueLimits
from service.settings import Settings
from service.states import JobStatus, Scope
from service.tables import Attempt, Checkpoint, Job, Series
from service.users import Principal

ADMIN = Principal("admin", Scope.ADMIN, "")
BACKUPS = 10
ROWS: dict[str, Any] = {"task": "classification", "dataset": "rows"}
MIB = 1 << 20

NewJob = Callable[[], str]


@pytest.fixture
def rows(database: Database) -> None:
    """A data set without arrays: no job of it is trained."""
    with database.write() as session:
        session.add(shelves.bare())


@pytest.fixture
def new_job(database: Database, rows: None) -> NewJob:
    """Submits a job, which nobody trains, and returns its id."""

    def make() -> str:
        with database.write() as session:
            return queue.submit(session, ADMIN, intake.draft(session, ADMIN, ROWS), QueueLimits(1000, 1000))

    return make


def _more_than(acknowledged: list[str], count: int) -> bool:
    return len(acknowledged) > count


def trainbox(folder: Path, *arguments: str, code: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINBOX_")}
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        env=environment | {"TRAINBOX_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def ask(path: Path, question: str) -> list[Any]:
    """All rows of a database file, as SQLite's own tools see it."""
    with closing(sqlite_module().connect(str(path))) as opened:
        return list(opened.execute(question).fetchall())


def ids(path: Path) -> set[str]:
    return {row[0] for row in ask(path, "SELECT id FROM jobs")}


def has_project(path: Path, name: str) -> bool:
    return bool(ask(path, f"SELECT 1 FROM projects WHERE name = '{name}'"))


def add_project_and_die(path: Path, name: str) -> None:
    """A commit that stays in the write-ahead log, since its process ends without closing the database."""
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom service import clock\n"
        "from service.database import Database\nfrom service.states import Visibility\n"
        "from service.tables import Project\n"
        "database = Database(Path(sys.argv[1]))\n"
        "with database.write() as session:\n"
        "    facts = {'visibility': Visibility.TEAM, 'created_at': clock.now()}\n"
        "    session.add(Project(name=sys.argv[2], owner='admin', **facts))\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path), name], check=True, timeout=30)
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0


# Backup and restore


def test_backups_under_load_hold_every_job_acknowledged_before_they_began(
    settings: Settings, rows: None, client: httpx.Client, serve: Serve, until: Until, tmp_path: Path
) -> None:
    acknowledged: list[str] = []
    enough = threading.Event()

    def load() -> None:
        while not enough.wait(0.01):
            acknowledged.append(submit(client, ROWS)["id"])

    loading = threading.Thread(target=load)
    loading.start()
    try:
        before: set[str] = set()
        for number in range(BACKUPS):
            file = tmp_path / f"{number}.db"
            if number:
                until(partial(_more_than, acknowledged, 5 * number))
                before = set(acknowledged)
                backup.save(settings, file, force=False)
            else:
                said = json.loads(trainbox(settings.home, "backup", str(file), "--json"))
                assert said["bytes"] == file.stat().st_size
            assert file.stat().st_mode & 0o777 == 0o600
            assert ask(file, "PRAGMA integrity_check") == [("ok",)]
            assert before <= ids(file)
    finally:
        enough.set()
        loading.join()
    assert len(before) > 5
    assert {path.name for path in tmp_path.iterdir()} == {"home"} | {f"{number}.db" for number in range(BACKUPS)}

    restored = Settings(home=tmp_path / "another", port=0)
    trainbox(restored.home, "restore", str(file))
    serving = serve(with_settings=restored)
    with httpx.Client(base_url=serving.url, headers=client.headers) as other:
        for job in sorted(before)[-20:]:
            assert other.get(f"/v1/jobs/{job}").json()["status"] == "queued"


def test_a_backup_replaces_no_file_unless_told_to_and_never_the_database(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    file.write_text("something else")
    said = trainbox(settings.home, "backup", str(file), code=2)
    assert said == f"{file} is there already: --force replaces it\n"
    assert file.read_text() == "something else"
    trainbox(settings.home, "backup", "--force", str(file))
    assert has_project(file, "default")
    for wrong in (settings.database_path, tmp_path, tmp_path / "nowhere" / "backup.db"):
        for force in (True, False):
            with pytest.raises(WrongFile):
                backup.save(settings, wrong, force=force)
    with pytest.raises(SchemaMismatch):
        backup.save(Settings(home=tmp_path / "empty"), tmp_path / "other.db", force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.db", "home"]


def test_nothing_is_restored_while_a_part_of_the_service_runs(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    backup.save(settings, file, force=False)
    before = sorted(settings.home.iterdir())
    for role in ("api", "serve"):
        with locks.hold_role(settings.run_path, role), pytest.raises(AlreadyRunning) as caught:
            backup.restore(settings, file)
        assert str(os.getpid()) in str(caught.value)
    lock = locks.make(crew.worker_lock(settings.run_path, "a-worker"))
    with pytest.raises(AlreadyRunning, match="worker"):
        backup.restore(settings, file)
    os.close(lock)
    assert sorted(settings.home.iterdir()) == before


def test_an_older_database_is_never_mixed_with_a_newer_log(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    backup.save(settings, file, force=False)
    add_project_and_die(settings.database_path, "newer")
    restored = backup.restore(settings, file)
    assert not has_project(settings.database_path, "newer")
    assert ask(settings.database_path, "PRAGMA integrity_check") == [("ok",)]
    assert restored.kept is not None
    assert has_project(restored.kept, "newer"), "what was replaced is kept whole"
    assert file.exists()
    # The replaced one can be put back in its turn.
    backup.restore(settings, restored.kept)
    assert has_project(settings.database_path, "newer")


def test_a_damaged_database_is_replaced_and_kept_with_its_log(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    backup.save(settings, file, force=False)
    add_project_and_die(settings.database_path, "newer")
    with settings.database_path.open("r+b") as opened:
        opened.write(b"\xff" * 4096)
    damaged = settings.database_path.read_bytes()
    kept = backup.restore(settings, file).kept
    assert kept is not None
    assert kept.read_bytes()[:4096] == damaged[:4096]
    assert any(b"newer" in path.read_bytes() for path in settings.home.glob(f"{kept.name}*"))
    assert has_project(settings.database_path, "default")
    assert not has_project(settings.database_path, "newer")


def test_what_is_no_backup_of_this_version_or_an_older_one_is_refused(settings: Settings, tmp_path: Path) -> None:
    newer, foreign, torn = (tmp_path / name for name in ("newer.db", "foreign.db", "torn.db"))
    backup.save(settings, newer, force=False)
    torn.write_bytes(newer.read_bytes()[:20_000])
    for path, statement in ((newer, "UPDATE alembic_version SET version_num = '9999'"), (foreign, "CREATE TABLE a(b)")):
        with closing(sqlite_module().connect(str(path))) as opened, opened:
            opened.execute(statement)
    before = sorted(settings.home.iterdir())
    for path, kind in ((newer, SchemaMismatch), (foreign, SchemaMismatch), (torn, CopyFailed)):
        with pytest.raises(kind):
            backup.restore(settings, path)
    for path in (settings.database_path, tmp_path / "missing.db", tmp_path):
        with pytest.raises(WrongFile):
            backup.restore(settings, path)
    assert sorted(settings.home.iterdir()) == before
    assert has_project(settings.database_path, "default")


def test_a_database_that_another_program_has_open_is_not_replaced(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    backup.save(settings, file, force=False)
    with closing(sqlite_module().connect(str(settings.database_path), isolation_level=None)) as opened:
        opened.execute("BEGIN")
        opened.execute("SELECT * FROM projects").fetchall()
        with pytest.raises(CopyFailed, match="another program"):
            backup.restore(settings, file)
    assert has_project(settings.database_path, "default")


def test_a_restore_brings_built_in_arrays_back_and_throws_none_away(settings: Settings, tmp_path: Path) -> None:
    home.prepare(settings)
    file = tmp_path / "backup.db"
    backup.save(settings, file, force=False)
    own = settings.datasets_path / "00000000x-own0000"
    own.mkdir()
    (own / "x.npy").touch()
    backup.restore(settings, file)
    assert [path.name for path in settings.home.glob("datasets.replaced-*/*")] == [own.name]

    elsewhere = Settings(home=tmp_path / "another")
    backup.restore(elsewhere, file)
    for folder in settings.datasets_path.iterdir():
        for path in folder.iterdir():
            assert (elsewhere.datasets_path / folder.name / path.name).read_bytes() == path.read_bytes()
    assert len(list(elsewhere.datasets_path.iterdir())) == len(datasets.BUILT_IN)


# What is thrown away


def ended(database: Database, settings: Settings, job: str, days_ago: float) -> Path:
    """Makes the job one that ended so long ago, with the files that jobs leave; returns its folder."""
    moment = clock.rfc3339(datetime.now(UTC) - timedelta(days=days_ago))
    with database.write() as session:
        control.cancel(session, ADMIN, job)
        session.execute(update(Job).where(Job.id == job).values(finished_at=moment))
    return left(database, settings, job)


def left(database: Database, settings: Settings, job: str) -> Path:
    folder = settings.jobs_path / job
    attempt, checkpoint = folder / "a1", folder / "checkpoints" / "a1-s10"
    attempt.mkdir(parents=True)
    checkpoint.mkdir(parents=True)
    for path in (attempt / "spool", attempt / "log", attempt / "outcome.json", checkpoint / "model.safetensors"):
        path.touch()
    with database.write() as session:
        seq = session.scalars(select(Job.seq).where(Job.id == job)).one()
        session.add(
            Checkpoint(
                job=seq,
                step=10,
                attempt=1,
                epoch=1.0,
                active_seconds=1.0,
                bytes=0,
                sha256="",
                weights_sha256="",
                resumable=True,
                metrics={},
                created_at=clock.now(),
            )
        )
        batch = curves.Batch("train_loss", 0, np.arange(1, 3), np.array([2.0, 1.0]), np.array([0.1, 0.2]))
        curves.append_all(session, seq, [batch])
    return folder


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


ALL = {"spool", "log", "outcome.json", "model.safetensors"}


def test_files_of_jobs_that_are_over_go_when_they_are_old_enough(
    settings: Settings, database: Database, new_job: NewJob
) -> None:
    waiting = left(database, settings, new_job())
    fresh, old, older = (ended(database, settings, new_job(), days) for days in (0.0, 2.0, 20.0))
    terms = retention.Terms(logs_days=10, checkpoints_days=1)
    assert retention.sweep(database, settings.jobs_path, terms) == retention.Swept(spools=2, logs=1, checkpoints=2)
    assert files(waiting) == files(fresh) == ALL
    assert files(old) == {"log", "outcome.json"}
    assert files(older) == {"outcome.json"}
    with database.read() as session:
        kept = session.scalars(select(Job.id).join(Checkpoint, Checkpoint.job == Job.seq)).all()
        assert set(kept) == {waiting.name, fresh.name}, "rows go with their files"
        assert session.scalars(select(func.count()).select_from(Series)).one() == 4, "curves never go"
    assert retention.sweep(database, settings.jobs_path, terms) == retention.Swept()


def test_logs_and_checkpoints_are_kept_for_ever_unless_told_otherwise(
    settings: Settings, database: Database, new_job: NewJob
) -> None:
    folder = ended(database, settings, new_job(), 10_000)
    retention.sweep(database, settings.jobs_path, retention.Terms(None, None), lambda: True)
    assert files(folder) == ALL, "a sweep ends when the service stops"
    retention.sweep(database, settings.jobs_path, retention.Terms(settings.keep_logs_days, None))
    assert files(folder) == ALL - {"spool"}


def test_a_sweep_follows_no_link_out_of_a_jobs_folder(
    settings: Settings, database: Database, new_job: NewJob, tmp_path: Path
) -> None:
    folder = ended(database, settings, new_job(), 20.0)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "log").touch()
    (folder / "a2").symlink_to(outside)
    (folder / "checkpoints" / "a1-s10").rename(folder / "moved")
    (folder / "checkpoints").rmdir()
    (folder / "checkpoints").symlink_to(outside)
    retention.sweep(database, settings.jobs_path, retention.Terms(1, 1))
    assert files(outside) == {"log"}


def test_the_api_sweeps_and_makes_the_reserve_while_it_runs(
    serve: Serve,
    settings: Settings,
    database: Database,
    new_job: NewJob,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = ended(database, settings, new_job(), 2.0)
    monkeypatch.setattr(housekeeping, "LOOK_SECONDS", 0.05)
    serve(with_settings=settings.model_copy(update={"keep_logs_days": 1.0, "min_free_mib": 0}))
    until(lambda: files(folder) == {"outcome.json", "model.safetensors"})
    assert disk.has_reserve(settings.home)


# What monitoring is told


def test_the_metrics_parse_and_tell_what_is_so(
    client: httpx.Client, settings: Settings, database: Database, new_job: NewJob
) -> None:
    jobs = [new_job() for _ in range(4)]
    with database.write() as session:
        waiting = {"reason_since": clock.rfc3339(datetime.now(UTC) - timedelta(seconds=100))}
        session.execute(update(Job).where(Job.id == jobs[0]).values(waiting))
        running = {"status": JobStatus.RUNNING, "worker": "w", "boot": "b", "attempt": 1}
        for job, step, seconds in ((jobs[1], 50, 10.0), (jobs[2], 30, 2.0)):
            progress = {"step": step, "active_seconds": seconds}
            session.execute(update(Job).where(Job.id == job).values(**running, **progress))
        began = {"worker": "w", "boot": "b", "devices": [], "started_ms": 0, "started_at": clock.now()}
        seq = session.scalars(select(Job.seq).where(Job.id == jobs[1])).one()
        session.add(Attempt(job=seq, number=1, spool_offset=300, **began))
    spool = attempt_folder(settings.jobs_path, jobs[1], 1) / "spool"
    spool.parent.mkdir(parents=True)
    spool.write_bytes(bytes(1000))
    for _ in range(3):
        client.get("/v1/jobs")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert all(family.documentation for family in families.values())
    value = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert value["trainbox_jobs", "queued"] == 2
    assert value["trainbox_jobs", "running"] == 2
    assert value["trainbox_jobs", "failed"] == 0
    assert value["trainbox_workers",] == 0
    assert 100 <= value["trainbox_queue_wait_seconds",] < 130
    assert value["trainbox_recorder_lag_bytes",] == 1000 - 300
    assert value["trainbox_slots", "used"] == 2
    assert value["trainbox_slots", "out_of_service"] == value["trainbox_devices_out_of_service",] == 0
    assert value["trainbox_training_steps_per_second",] == pytest.approx(20.0)
    assert value["trainbox_database_bytes",] == database.path.stat().st_size
    assert value["trainbox_database_log_bytes",] == database.log_bytes > 0
    assert 0 < value["trainbox_disk_free_bytes",] < value["trainbox_disk_bytes",]
    assert value["trainbox_request_seconds_count", "/v1/jobs", "200", "GET"] == 3
    assert value["process_resident_memory_bytes",] > 10 * MIB


def test_readiness_names_what_is_wrong_and_liveness_does_not_mind(client: httpx.Client, settings: Settings) -> None:
    with closing(sqlite_module().connect(str(settings.database_path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the database cannot be written; no worker is alive"
    assert client.get("/healthz").status_code == 200


def test_an_old_view_of_the_database_is_warned_of_and_the_service_trims_its_log_afterwards(
    serve: Serve,
    settings: Settings,
    database: Database,
    rows: None,
    token: str,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert housekeeping.LOOK_SECONDS < 30
    monkeypatch.setattr(housekeeping, "LOOK_SECONDS", 0.2)
    lock = locks.make(crew.worker_lock(settings.run_path, "a-worker"))
    with database.write() as session:
        crew.register(session, "a-worker", os.getpid(), 1, [], leases.Terms(300, 1))
    with httpx.Client(base_url=serve().url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        with closing(sqlite_module().connect(str(settings.database_path), isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM projects").fetchall()
            with database.write() as session:
                session.connection().exec_driver_sql("CREATE TABLE scrap (content BLOB)")
            for _ in range(MOST_LOG_BYTES // (8 * MIB) + 1):
                with database.write() as session:
                    session.connection().exec_driver_sql("INSERT INTO scrap VALUES (zeroblob(8388608))")
            job = submit(client, ROWS)["id"]
            assert client.get(f"/v1/jobs/{job}").json()["status"] == "queued"
            answer = client.get("/readyz")
            assert answer.status_code == 200, answer.text
            assert "write-ahead log" in " ".join(answer.json()["warnings"])
            assert database.log_bytes > MOST_LOG_BYTES, "as long as somebody reads from it"
        until(lambda: database.log_bytes <= MOST_LOG_BYTES)
        assert client.get("/readyz").json()["warnings"] == []
    os.close(lock)


def test_the_doctor_tells_of_the_reserve_and_of_old_copies(settings: Settings) -> None:
    old = settings.home / "trainbox.db.before-0003-was-0001"
    old.touch()
    found = {check["name"]: check for check in json.loads(trainbox(settings.home, "doctor", "--json"))}
    assert found["reserve"]["verdict"] == "warn"
    assert found["copies"]["finding"] == "1 beside the database, 0 MiB"
    assert found["open files"]["finding"].endswith(("a process", "without limit", "connections"))


# A full disk


def test_with_little_disk_left_no_job_is_taken_in_and_all_else_goes_on(
    serve: Serve, settings: Settings, new_job: NewJob, database: Database, token: str
) -> None:
    job = new_job()
    with database.write() as session:
        control.cancel(session, ADMIN, job)
    serving = serve(with_settings=settings.model_copy(update={"min_free_mib": 1 << 40}))
    with httpx.Client(base_url=serving.url, headers={"Authorization": f"Bearer {token}"}) as client:
        for path, body in (("", ROWS), (f"/{job}/clone", {"name": "again"}), (f"/{job}/retry", None)):
            answer = client.post(f"/v1/jobs{path}", json=body)
            assert answer.status_code == 507, answer.text
            assert answer.json()["code"] == "disk_full"
            assert "MiB of disk are free besides" in answer.json()["detail"]
        assert client.post("/v1/jobs?dry_run=true", json=ROWS).status_code == 200
        assert "MiB of disk are free besides" in client.get("/readyz").json()["detail"]
        assert len(client.get("/v1/jobs").json()["data"]) == 1
        assert client.delete(f"/v1/jobs/{job}").status_code == 204


def test_the_reserve_is_let_go_when_sqlite_finds_the_disk_full(settings: Settings, database: Database) -> None:
    assert disk.keep_reserve(settings.home, 0)
    reserve = settings.home / disk.RESERVE_NAME
    assert reserve.stat().st_blocks * 512 >= disk.RESERVE_BYTES, "it takes up room"
    assert reserve.stat().st_mode & 0o777 == 0o600

    def fill() -> None:
        with database.write() as session:
            connection = session.connection()
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # never below what there is
            connection.exec_driver_sql("CREATE TABLE scrap (content BLOB)")
            connection.exec_driver_sql("INSERT INTO scrap VALUES (zeroblob(1048576))")

    with pytest.raises(OperationalError, match="full"):
        fill()
    assert not reserve.exists()
    assert not disk.keep_reserve(settings.home, 1 << 40), "there is no room for it"
    assert not reserve.exists()


@contextmanager
def small_disk(place: Path, mebibytes: int) -> Iterator[Path]:
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "none", str(place)], capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """A file that takes all the room that there is."""
    filler = place / "filler"
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(bytes(MIB)):
            pass
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return filler


def test_a_service_starts_on_a_full_disk_with_the_room_of_the_reserve(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 200) as place:
        settings = Settings(home=place / "home")
        home.prepare(settings)
        fill(place)
        assert disk.has_reserve(settings.home)
        home.prepare(settings)
        assert not disk.has_reserve(settings.home)
        with locks.hold_role(settings.run_path, "serve"):
            os.close(locks.make(crew.worker_lock(settings.run_path, "a-worker")))
        fill(place)
        with pytest.raises(HomeUnusable, match="No space left on device"):
            home.prepare(settings)


@pytest.mark.chaos
def test_a_disk_that_fills_during_training_stops_jobs_and_not_the_service(
    serve: Serve, tmp_path: Path, until: Until
) -> None:
    with small_disk(tmp_path / "small", 200) as place:
        settings = Settings(home=place / "home", port=0)
        token = home.prepare(settings)
        serving = serve(with_settings=settings)
        with (
            worker(settings.home, TRAINBOX_SLOTS="1"),
            httpx.Client(base_url=serving.url, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client,
        ):
            until(lambda: client.get("/readyz").status_code == 200)
            endless = submit(client, digits(epochs=None, max_steps=100_000_000))
            waiting = submit(client, digits())
            until(lambda: (client.get(f"/v1/jobs/{endless['id']}").json()["progress"] or {}).get("step", 0) > 10)
            filler = fill(place)
            until(lambda: client.get("/readyz").status_code == 503)
            assert "of disk are free besides the reserve" in client.get("/readyz").json()["detail"]
            refused = client.post("/v1/jobs", json=digits())
            assert refused.status_code == 507, refused.text
            assert client.get("/v1/jobs").status_code == 200
            assert client.get(f"/v1/runs/{endless['id']}/curves", params={"metric": "train_loss"}).status_code == 200
            # Whoever met the full disk first: the trainer may go on for minutes in the room that the reserve has given.
            outcome = attempt_folder(settings.jobs_path, endless["id"], 1) / "outcome.json"
            until(lambda: fill(place) and outcome.exists())
            os.truncate(filler, filler.stat().st_size - 4 * MIB)  # for the queue to write it down
            until(lambda: client.get(f"/v1/jobs/{endless['id']}").json()["status"] == "failed")
            assert client.get(f"/v1/jobs/{endless['id']}").json()["error"]["code"] == "disk_full"
            told = client.get(f"/v1/jobs/{waiting['id']}/explain").json()
            assert told["blocked_by"][0]["code"] == "disk_full"
            assert client.get(f"/v1/jobs/{waiting['id']}").json()["attempt"] == 0, "it waits, and uses up no attempt"
            filler.unlink()
            until(lambda: client.get("/readyz").status_code == 200)
            until(lambda: client.get(f"/v1/jobs/{waiting['id']}").json()["status"] == "succeeded")
            after = submit(client, digits())
            until(lambda: client.get(f"/v1/jobs/{after['id']}").json()["status"] == "succeeded")
        assert ask(settings.database_path, "PRAGMA integrity_check") == [("ok",)]

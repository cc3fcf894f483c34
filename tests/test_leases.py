"""What workers do to the queue: who may write for a job, for how long, and who takes over."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

import httpx
import numpy as np
import pytest
import shelves
from conftest import Until
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import checkpoints, clock, control, crew, curves, intake, leases, locks, order, queue
from service.checkpoints import Kept, Made
from service.database import Database
from service.errors import IllegalMove, LeaseLost
from service.leases import Claim, Lease, Terms
from service.order import Room
from service.queue import QueueLimits
from service.settings import Settings
from service.states import EndReason, JobStatus, Scope
from service.tables import Attempt, Job, JobDependency, JobEvent, Point, Run, WorkerRow
from service.users import Principal
from workers import recorder, spool
from workers.recorder import Recording

ADMIN = Principal("admin", Scope.ADMIN, "")
TERMS = Terms(lease=30.0, backoff=10.0)
BRIEF = Terms(lease=0.02, backoff=10.0)
PROCESSES = 8
CHAIN = 600  # jobs that depend on one another: more than calls may be deep

Submit = Callable[..., str]
Employ = Callable[..., IO[str]]


@pytest.fixture
def run_path(settings: Settings) -> Path:
    return settings.run_path


@pytest.fixture
def dataset(database: Database) -> None:
    """A data set of 100 rows; no job here is trained, so it has no arrays."""
    with database.write() as session:
        session.add(shelves.bare())


@pytest.fixture
def submit(database: Database, dataset: None) -> Submit:
    """Queues a job and returns its id."""
    return lambda **spec: submit_many(database, 1, **spec)[0]


def submit_many(database: Database, count: int, **spec: Any) -> list[str]:
    with database.write() as session:
        made = intake.draft(session, ADMIN, {"task": "classification", "dataset": "rows", **spec})
        return [queue.submit(session, ADMIN, made, QueueLimits(1000, 1000)) for _ in range(count)]


@pytest.fixture
def employ(database: Database, run_path: Path) -> Iterator[Employ]:
    """Registers a worker that lives until the file that is returned is closed: it holds the worker's lock."""
    with ExitStack() as alive:

        def employ(worker: str, terms: Terms = TERMS) -> IO[str]:
            lock = locks.make(crew.worker_lock(run_path, worker))
            life = alive.enter_context(os.fdopen(lock))
            with database.write() as session:
                crew.register(session, worker, os.getpid(), 1, [], terms)
            return life

        yield employ


def claim(database: Database, worker: str, terms: Terms = TERMS) -> Claim:
    with database.write() as session:
        claimed = leases.claim(session, worker, Room(1, 0), Room(1, 0), terms)
    assert claimed is not None
    return claimed


def start(database: Database, submit: Submit, worker: str = "worker-1", terms: Terms = TERMS) -> Lease:
    """A new job, claimed at once."""
    submit()
    return claim(database, worker, terms).lease


def is_idle(database: Database, terms: Terms = TERMS) -> bool:
    """Whether a worker finds nothing to do."""
    with database.write() as session:
        return leases.claim(session, "a-worker-that-looks", Room(1, 0), Room(1, 0), terms) is None


def lose(database: Database, lease: Lease, terms: Terms = TERMS, signal: int | None = None) -> None:
    with database.write() as session:
        leases.lose(session, lease, terms, "its worker was lost", signal)


def reclaim(database: Database, run_path: Path, terms: Terms = TERMS) -> list[str]:
    with database.write() as session:
        return crew.reclaim(session, run_path, crew.lost(session, run_path), terms)


def hung(database: Database, run_path: Path, terms: Terms) -> list[str]:
    with database.read() as session:
        return crew.hung(session, run_path, terms)


def job(database: Database, job_id: str) -> Job:
    with database.read() as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def attempts(database: Database) -> list[tuple[int, str | None]]:
    """Number and end of every attempt."""
    with database.read() as session:
        rows = session.execute(select(Attempt.number, Attempt.ended).order_by(Attempt.job, Attempt.number))
        return [(row.number, row.ended) for row in rows]


def events(database: Database, job_id: str) -> list[str]:
    query = select(JobEvent.code).join(Run, Run.seq == JobEvent.job).where(Run.id == job_id).order_by(JobEvent.id)
    with database.read() as session:
        return list(session.scalars(query))


def append(session: Session, lease: Lease, first: int, last: int) -> None:
    """Points of the steps from first to last, under the guard of the attempt."""
    leases.hold(session, lease, TERMS, step=last)
    steps = np.arange(first, last + 1)
    curves.append(session, lease.seq, "train_loss", first - 1, steps, np.ones(len(steps)), steps / 8)


def test_a_claim_takes_the_job_with_all_that_its_trainer_needs(database: Database, submit: Submit) -> None:
    job_id = submit(hyperparameters={"max_steps": 7}, limits={"max_seconds": 60})
    claimed = claim(database, "worker-1")
    assert (claimed.lease.job_id, claimed.lease.attempt, claimed.lease.worker) == (job_id, 1, "worker-1")
    assert claimed.plan["total_steps"] == 7
    assert (claimed.dataset_id, claimed.classes, claimed.max_seconds) == ("rows-of-a-test", 2, 60)
    found = job(database, job_id)
    assert (found.status, found.worker, found.attempt) == (JobStatus.RUNNING, "worker-1", 1)
    assert found.started_at is not None
    assert attempts(database) == [(1, None)]
    assert is_idle(database)


def test_a_job_that_does_not_fit_what_is_free_is_passed_over(database: Database, submit: Submit) -> None:
    submit(resources={"threads": 4})
    narrow = submit()
    assert claim(database, "worker-1").lease.job_id == narrow
    assert is_idle(database)


def test_a_higher_priority_goes_first_and_equal_ones_in_order_of_submission(database: Database, submit: Submit) -> None:
    ordinary, urgent, second, idle = submit(), submit(priority=5), submit(), submit(priority=-1)
    assert [claim(database, "worker-1").lease.job_id for _ in range(4)] == [urgent, ordinary, second, idle]


def test_eight_processes_start_each_of_500_jobs_once_and_in_order(
    database: Database, dataset: None, settings: Settings
) -> None:
    for priority in (0, 7, 0, -3, 7):
        submit_many(database, 100, priority=priority)
    shares = claim_all_together(settings.database_path)
    claimed = [seq for share in shares for seq in share]
    with database.read() as session:
        asked = select(Job.seq).where(Job.status == JobStatus.RUNNING).order_by(Job.priority.desc(), Job.seq)
        in_order = session.scalars(asked).all()
        started = session.scalars(select(JobEvent.job).where(JobEvent.code == "started").order_by(JobEvent.id)).all()
        assert session.scalars(select(func.max(Job.attempt))).one() == 1
    assert len(in_order) == 500
    assert sorted(claimed) == sorted(in_order)
    assert started == in_order
    assert sum(1 for share in shares if share) > 1, "one process alone proves nothing"


CLAIM_ALL = """
import sys
from pathlib import Path
from service import leases
from service.database import Database
from service.order import Room
database, terms, claimed = Database(Path(sys.argv[1])), leases.Terms(30.0, 10.0), []
print("ready", flush=True)
sys.stdin.readline()
while True:
    with database.write() as session:
        found = leases.claim(session, sys.argv[2], Room(1, 0), Room(1, 0), terms)
    if found is None:
        break
    claimed.append(found.lease.seq)
print(*claimed)
"""


def claim_all_together(path: Path) -> list[list[int]]:
    """What each of several processes got, which all begin at the same moment and claim until there is nothing left."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM_ALL, str(path), f"worker-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [[int(seq) for seq in process.communicate(timeout=120)[0].split()] for process in processes]


def test_holding_prolongs_the_lease_and_notes_the_progress(database: Database, submit: Submit) -> None:
    lease = start(database, submit)
    before = job(database, lease.job_id).lease_until
    with database.write() as session:
        leases.hold(session, lease, Terms(lease=3000.0, backoff=0), step=12, active_seconds=1.5)
        leases.note_attempt(session, lease, pid=4711)
    found = job(database, lease.job_id)
    assert before is not None
    assert found.lease_until is not None
    assert found.lease_until > before
    assert (found.step, found.active_seconds) == (12, 1.5)


def test_a_worker_renews_all_that_it_holds_and_learns_what_is_to_stop(database: Database, submit: Submit) -> None:
    mine = [start(database, submit) for _ in range(2)]
    other = start(database, submit, "worker-2")
    until_before = job(database, other.job_id).lease_until
    with database.write() as session:
        control.cancel(session, ADMIN, mine[1].job_id)
        held = crew.renew(session, "worker-1", Terms(lease=3000.0, backoff=0))
    assert held == {mine[0].job_id: None, mine[1].job_id: JobStatus.CANCELLED}
    renewed = {job(database, lease.job_id).lease_until for lease in mine}
    assert len(renewed) == 1
    assert job(database, other.job_id).lease_until == until_before


ENDS: dict[str, Callable[[Session, Lease], None]] = {
    "hold": lambda session, lease: leases.hold(session, lease, TERMS),
    "succeed": leases.succeed,
    "stop": leases.stop,
    "give_back": leases.give_back,
    "lose": lambda session, lease: leases.lose(session, lease, TERMS, "lost"),
    "fail": lambda session, lease: leases.fail(session, lease, EndReason.ERROR, "failed", 1, None),
}


@pytest.mark.parametrize("what", ENDS)
def test_a_worker_that_was_thought_dead_comes_back_and_writes_nothing(
    database: Database, submit: Submit, what: str
) -> None:
    stale = start(database, submit)
    lose(database, stale, Terms(lease=30.0, backoff=0))
    fresh = claim(database, "worker-2").lease
    with database.write() as session:
        append(session, fresh, 1, 5)
    before = everything(database)
    with pytest.raises(LeaseLost), database.write() as session:
        ENDS[what](session, stale)
    assert everything(database) == before
    with database.write() as session:
        append(session, fresh, 6, 9)
        leases.succeed(session, fresh)
    assert job(database, fresh.job_id).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("what", ENDS)
def test_nothing_is_written_for_a_job_that_is_over(database: Database, submit: Submit, what: str) -> None:
    lease = start(database, submit)
    with database.write() as session:
        leases.succeed(session, lease)
    before = everything(database)
    with pytest.raises(LeaseLost), database.write() as session:
        ENDS[what](session, lease)
    assert everything(database) == before


def everything(database: Database) -> list[list[tuple[Any, ...]]]:
    """All rows that an attempt could write."""
    with database.read() as session:
        tables = (Job.__table__, Attempt.__table__, JobEvent.__table__, Point.__table__)
        return [[tuple(row) for row in session.execute(select(table))] for table in tables]


def recording_of(lease: Lease, folder: Path) -> Recording:
    return Recording(lease, folder / "spool", folder / "checkpoints", folder / "resumed.json", keep=2)


def test_a_recorder_whose_lease_is_lost_stores_no_point(database: Database, submit: Submit, tmp_path: Path) -> None:
    stale = start(database, submit)
    writer = spool.Writer(tmp_path / "spool", ["train_loss"])
    writer.append(np.array([(0, 1, 0.5, 0.1), (0, 2, 0.4, 0.2)], spool.RECORD))
    writer.close()
    recording = recording_of(stale, tmp_path)
    lose(database, stale, Terms(lease=30.0, backoff=0))
    fresh = claim(database, "worker-2").lease
    with pytest.raises(LeaseLost):
        recorder.drain(database, recording, TERMS)
    assert recording.offset == 0
    again = recording_of(fresh, tmp_path)
    recorder.drain(database, again, TERMS)
    with database.read() as session:
        assert session.scalars(select(Point.step)).all() == [1, 2]


def test_a_job_of_a_model_that_is_not_installed_any_more_holds_nobody_up(
    database: Database, submit: Submit, client: httpx.Client
) -> None:
    job_id = submit()
    with database.write() as session:
        row = session.scalars(select(Job).where(Job.id == job_id)).one()
        row.spec = row.spec | {"model": {"type": "removed"}}
    assert claim(database, "worker-1").lease.job_id == job_id, "its trainer tells what is missing"
    for what in ("clone", "clone?dry_run=true"):
        answer = client.post(f"/v1/jobs/{job_id}/{what}", json={})
        assert (answer.status_code, answer.json()["errors"][0]["param"]) == (422, "model.type")
    assert client.get(f"/v1/jobs/{job_id}").json()["spec"]["model"] == {"type": "removed"}


@pytest.mark.parametrize(("column", "field"), [("spec", "gate"), ("spec", "limits"), ("plan", "total_steps")])
def test_a_job_that_another_version_wrote_otherwise_fails_and_holds_nobody_up(
    database: Database, submit: Submit, column: str, field: str
) -> None:
    odd, other = submit(), submit()
    with database.write() as session:
        row = session.scalars(select(Job).where(Job.id == odd)).one()
        setattr(row, column, {name: value for name, value in getattr(row, column).items() if name != field})
    assert claim(database, "worker-1").lease.job_id == other
    failed = job(database, odd)
    assert (failed.status, failed.error_code) == (JobStatus.FAILED, EndReason.ERROR)
    assert "this version cannot read what is stored" in (failed.error_message or "")
    assert attempts(database) == [(1, "error"), (1, None)]


def test_what_keeps_a_run_from_coming_out_the_same_is_told_once_for_all_attempts(
    database: Database, submit: Submit, client: httpx.Client, tmp_path: Path
) -> None:
    lease = start(database, submit)
    assert client.get(f"/v1/runs/{lease.job_id}").json()["inexact"] == []
    record_doubts(database, lease, tmp_path / "first", "put_ is not")
    lose(database, lease, Terms(lease=30.0, backoff=0))
    lease = claim(database, "worker-2").lease
    record_doubts(database, lease, tmp_path / "second", "put_ is not", "kthvalue is not")
    with database.write() as session:
        checkpoints.resumed(session, lease.seq, {"step": 2, "unusable": [], "differs": ["threads is 1 and was 7"]})
    said = "the same spec may give another curve"
    resumed = "from here on the curve may differ from an undisturbed one: threads is 1 and was 7"
    assert client.get(f"/v1/runs/{lease.job_id}").json()["inexact"] == [
        {"step": 1, "message": f"{said}: put_ is not"},
        {"step": 1, "message": f"{said}: kthvalue is not"},
        {"step": 2, "message": resumed},
    ]
    assert events(database, lease.job_id)[-3:] == ["inexact", "resumed", "inexact"]


def record_doubts(database: Database, lease: Lease, folder: Path, *sentences: str) -> None:
    folder.mkdir()
    writer = spool.Writer(folder / "spool", ["train_loss"])
    writer.append(np.array([(0, 1, 0.5, 0.1)], spool.RECORD))
    for place, sentence in enumerate(sentences):
        writer.doubt(sentence, place, 1, 0.1)
    writer.close()
    recorder.drain(database, recording_of(lease, folder), TERMS)


def test_a_job_of_a_dead_worker_waits_again_and_its_curve_begins_anew(
    database: Database, submit: Submit, employ: Employ, run_path: Path
) -> None:
    life = employ("worker-1")
    lease = start(database, submit)
    with database.write() as session:
        append(session, lease, 1, 100)
    assert reclaim(database, run_path) == []
    life.close()
    assert reclaim(database, run_path) == [lease.job_id]
    found = job(database, lease.job_id)
    assert (found.status, found.reason_code, found.worker) == (JobStatus.QUEUED, "worker_lost", None)
    assert attempts(database) == [(1, "worker_lost")]
    assert is_idle(database), "it starts again after a while only"
    make_due(database, lease.job_id)
    again = claim(database, "worker-2").lease
    assert again.attempt == 2
    with database.read() as session:
        assert session.scalars(select(func.count()).select_from(Point)).one() == 0
    assert job(database, lease.job_id).step == 0
    assert events(database, lease.job_id) == ["submitted", "started", "worker_lost", "started"]


def make_due(database: Database, job_id: str) -> None:
    with database.write() as session:
        session.scalars(select(Job).where(Job.id == job_id)).one().not_before = 0


def test_what_a_dead_worker_left_of_itself_is_removed(database: Database, employ: Employ, run_path: Path) -> None:
    employ("worker-1").close()
    employ("worker-2")
    os.close(locks.make(crew.worker_lock(run_path, "killed-before-it-had-a-row")))
    crew.worker_lock(run_path, "killed-at-once").with_suffix(".lock.new").touch()
    with locks.hold_role(run_path, "serve"):
        reclaim(database, run_path)
        crew.sweep(run_path)
    with database.read() as session:
        assert session.scalars(select(WorkerRow.id)).all() == ["worker-2"]
    assert sorted(path.name for path in run_path.iterdir()) == ["serve.lock", "worker-worker-2.lock"]
    assert locks.is_held(crew.worker_lock(run_path, "worker-2"))


SWEEP = """
import sys
from pathlib import Path
from service import crew
while True:
    crew.sweep(Path(sys.argv[1]))
"""


def test_a_worker_that_begins_while_others_sweep_keeps_its_lock(run_path: Path, until: Until) -> None:
    with subprocess.Popen([sys.executable, "-c", SWEEP, str(run_path)]) as sweeping:
        try:
            os.close(locks.make(crew.worker_lock(run_path, "dead")))
            until(lambda: not crew.worker_lock(run_path, "dead").exists())
            for number in range(500):
                path = crew.worker_lock(run_path, f"worker-{number}")
                lock = locks.make(path)
                assert locks.holder(path) == os.getpid()
                assert locks.is_held(path)
                os.close(lock)
        finally:
            sweeping.kill()


def test_a_job_of_another_boot_is_taken_over_whatever_its_clock_said(
    database: Database, submit: Submit, employ: Employ, run_path: Path
) -> None:
    employ("worker-1")
    lease = start(database, submit, terms=Terms(lease=10**9, backoff=10))
    with database.write() as session:
        session.scalars(select(Job)).one().boot = "before-the-power-went"
    assert reclaim(database, run_path) == [lease.job_id]


def test_a_wait_that_another_boot_measured_is_over(database: Database, submit: Submit) -> None:
    lose(database, start(database, submit))
    assert is_idle(database)
    with database.write() as session:
        session.scalars(select(Job)).one().boot = "before-the-power-went"
    assert claim(database, "worker-2").lease.attempt == 2


def test_only_a_worker_that_lives_and_renews_nothing_for_three_leases_hangs(
    database: Database, submit: Submit, employ: Employ, run_path: Path, until: Until
) -> None:
    life = employ("worker-1")
    start(database, submit, terms=BRIEF)
    began = clock.boot_milliseconds()
    with database.write() as session:
        crew.renew(session, "worker-1", BRIEF)
    until(lambda: hung(database, run_path, BRIEF) == ["worker-1"])
    assert clock.boot_milliseconds() - began >= 4 * BRIEF.lease_milliseconds
    assert reclaim(database, run_path, BRIEF) == [], "its trainer may still be at work"
    with database.write() as session:
        crew.renew(session, "worker-1", TERMS)
    assert hung(database, run_path, BRIEF) == []
    life.close()
    assert hung(database, run_path, BRIEF) == []


@pytest.mark.parametrize("hours", [2, -2])
def test_a_wall_clock_that_jumps_ends_no_lease_and_changes_no_order(
    database: Database,
    submit: Submit,
    employ: Employ,
    run_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hours: int,
) -> None:
    """Leases are measured with CLOCK_BOOTTIME, which counts from the boot: whoever sets the date does not move it."""
    employ("worker-1")
    running = [start(database, submit) for _ in range(4)]
    waiting = submit_many(database, 3)

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(hours=hours)

    for module in (clock, order):
        monkeypatch.setattr(module, "datetime", Shifted)
    assert hung(database, run_path, TERMS) == []
    assert reclaim(database, run_path) == []
    with database.write() as session:
        assert crew.renew(session, "worker-1", TERMS).keys() == {lease.job_id for lease in running}
    for lease in running:
        with database.write() as session:
            leases.succeed(session, lease)
        ended = job(database, lease.job_id)
        assert ended.started_at is not None
        assert ended.finished_at is not None
        shift = datetime.fromisoformat(ended.finished_at) - datetime.fromisoformat(ended.started_at)
        assert abs(shift - timedelta(hours=hours)) < timedelta(minutes=5)
    assert [claim(database, "worker-1").lease.job_id for _ in waiting] == waiting
    assert attempts(database) == [(1, "succeeded")] * 4 + [(1, None)] * 3


# It forks before it opens the database: a connection must never be carried over a fork.
RECLAIM_AND_DIE = """
import os, random, signal, sys, time
from pathlib import Path
from service import crew, leases
from service.database import Database
chance = random.Random(int(sys.argv[3]))
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        database = Database(Path(sys.argv[1]))
        while True:
            with database.write() as session:
                run_path = Path(sys.argv[2])
                crew.reclaim(session, run_path, crew.lost(session, run_path), leases.Terms(30.0, 10.0))
    time.sleep(chance.uniform(0.005, 0.1))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


def test_a_recovery_that_is_killed_again_and_again_comes_to_its_end(
    database: Database, dataset: None, employ: Employ, run_path: Path, settings: Settings
) -> None:
    submit_many(database, 50)
    life = employ("worker-1")
    lost = [claim(database, "worker-1").lease for _ in range(50)]
    life.close()
    arguments = [str(settings.database_path), str(run_path), "7"]
    subprocess.run([sys.executable, "-c", RECLAIM_AND_DIE, *arguments], check=True, timeout=60)
    reclaim(database, run_path)
    assert attempts(database) == [(1, "worker_lost")] * 50
    for lease in lost:
        assert job(database, lease.job_id).status is JobStatus.QUEUED
        assert events(database, lease.job_id) == ["submitted", "started", "worker_lost"]
    with database.read() as session:
        assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_a_process_is_known_by_its_lock_and_not_by_the_number_that_it_wrote(employ: Employ, run_path: Path) -> None:
    employ("worker-1")
    lock = crew.worker_lock(run_path, "worker-1")
    assert locks.is_open_in(lock, os.getpid())
    with subprocess.Popen(["sleep", "60"]) as other:
        assert not locks.is_open_in(lock, other.pid), "what a worker of another container wrote may be anybody here"
        other.kill()
    assert not locks.is_open_in(lock, other.pid)


def test_a_worker_without_a_job_can_hang_too(database: Database, run_path: Path, employ: Any, until: Until) -> None:
    employ("worker-1", BRIEF)
    until(lambda: hung(database, run_path, BRIEF) == ["worker-1"])


def test_the_wait_doubles_with_each_loss_up_to_five_minutes(database: Database, submit: Submit) -> None:
    job_id = submit(limits={"max_attempts": 12})
    waits = []
    for _ in range(8):
        lease = claim(database, "worker-1").lease
        lose(database, lease)
        waits.append((job(database, job_id).not_before - clock.boot_milliseconds()) / 1000)
        make_due(database, job_id)
    for wait, expected in zip(waits, [10, 20, 40, 80, 160, 300, 300, 300], strict=True):
        assert 0.8 * expected - 1 < wait <= 1.2 * expected


def test_a_loss_after_a_checkpoint_is_waited_for_as_briefly_as_the_first(database: Database, submit: Submit) -> None:
    job_id = submit(limits={"max_attempts": 12})
    waits = []
    for number in range(1, 8):
        lease = claim(database, "worker-1").lease
        if number in (3, 5):
            with database.write() as session:
                kept = Kept(lease.attempt, 10 * number, 1.0, "0" * 64)
                checkpoints.point_to(session, lease.seq, Made(kept, 1.0, 100, "0" * 64, {}, is_best=False), keep=2)
        lose(database, lease)
        waits.append((job(database, job_id).not_before - clock.boot_milliseconds()) / 1000)
        make_due(database, job_id)
    for wait, expected in zip(waits, [10, 20, 10, 10, 10, 10, 20], strict=True):
        assert 0.8 * expected - 1 < wait <= 1.2 * expected


def test_a_job_that_is_lost_as_often_as_it_may_be_fails(database: Database, submit: Submit) -> None:
    job_id = submit(limits={"max_attempts": 2})
    for _ in range(2):
        lose(database, claim(database, "worker-1").lease, Terms(lease=30.0, backoff=0), signal=9)
    found = job(database, job_id)
    assert (found.status, found.error_code, found.signal) == (JobStatus.FAILED, EndReason.WORKER_LOST, 9)
    assert found.error_message == "its worker was lost, in attempt 2, which was the last"
    assert attempts(database) == [(1, "worker_lost"), (2, "worker_lost")]


def test_an_attempt_that_is_given_back_does_not_count_and_waits_for_nothing(database: Database, submit: Submit) -> None:
    job_id = submit(limits={"max_attempts": 1})
    for _ in range(3):
        with database.write() as session:
            claimed = leases.claim(session, "worker-1", Room(1, 0), Room(1, 0), TERMS)
            assert claimed is not None
            leases.give_back(session, claimed.lease)
    assert job(database, job_id).status is JobStatus.QUEUED
    lose(database, claim(database, "worker-1").lease)
    assert job(database, job_id).status is JobStatus.FAILED
    assert attempts(database) == [(1, "drained"), (2, "drained"), (3, "drained"), (4, "worker_lost")]


@pytest.mark.parametrize("what", ["give_back", "lose"])
def test_a_job_that_was_asked_to_stop_never_waits_again(database: Database, submit: Submit, what: str) -> None:
    lease = start(database, submit)
    with database.write() as session:
        control.cancel(session, ADMIN, lease.job_id)
    assert job(database, lease.job_id).reason_code == "cancelling"
    with database.write() as session:
        ENDS[what](session, lease)
    assert job(database, lease.job_id).status is JobStatus.CANCELLED
    assert is_idle(database)


@pytest.mark.parametrize(("what", "ended"), [("give_back", "paused"), ("lose", "worker_lost")])
def test_a_job_that_was_asked_to_pause_is_paused_also_when_its_worker_is_lost(
    database: Database, submit: Submit, what: str, ended: str
) -> None:
    job_id = submit(limits={"max_attempts": 1})
    for attempt in (1, 2):
        lease = claim(database, "worker-1").lease
        with database.write() as session:
            control.pause(session, ADMIN, job_id)
            assert crew.held_by(session, "worker-1") == {job_id: JobStatus.PAUSED}
            ENDS[what](session, lease)
        found = job(database, job_id)
        assert (found.status, found.reason_code) == (JobStatus.PAUSED, "paused")
        assert (found.pause_requested_at, found.excused_attempts) == (None, attempt)
        with database.write() as session:
            control.resume(session, ADMIN, job_id)
    assert attempts(database) == [(1, ended), (2, ended)]


def test_a_job_asked_to_pause_that_is_done_before_has_succeeded(database: Database, submit: Submit) -> None:
    lease = start(database, submit)
    with database.write() as session:
        control.pause(session, ADMIN, lease.job_id)
        leases.succeed(session, lease)
    found = job(database, lease.job_id)
    assert (found.status, found.pause_requested_at) == (JobStatus.SUCCEEDED, None)


def test_a_waiting_job_is_cancelled_at_once_and_never_starts(database: Database, submit: Submit) -> None:
    job_id = submit()
    with database.write() as session:
        control.cancel(session, ADMIN, job_id)
        control.cancel(session, ADMIN, job_id)
    assert job(database, job_id).status is JobStatus.CANCELLED
    assert is_idle(database)
    assert events(database, job_id) == ["submitted", "cancelled"]


def test_a_job_that_is_over_cannot_be_cancelled(database: Database, submit: Submit) -> None:
    lease = start(database, submit)
    with database.write() as session:
        leases.fail(session, lease, EndReason.ERROR, "x" * 5000, 3, None)
    with pytest.raises(IllegalMove), database.write() as session:
        control.cancel(session, ADMIN, lease.job_id)
    found = job(database, lease.job_id)
    assert (found.error_code, found.exit_code, found.signal) == (EndReason.ERROR, 3, None)
    assert len(found.error_message or "") == 2000


def test_a_long_chain_of_jobs_fails_with_its_first(database: Database, dataset: None) -> None:
    ids = submit_many(database, CHAIN)
    with database.write() as session:
        jobs = session.scalars(select(Job.seq).order_by(Job.seq)).all()
        session.add_all(JobDependency(job=job, needs=needed) for needed, job in itertools.pairwise(jobs))
        session.flush()
        control.cancel(session, ADMIN, ids[0])
    with database.read() as session:
        told = dict(session.execute(select(Job.id, Job.error_message).where(Job.status == JobStatus.FAILED)).all())
    assert list(told) == ids[1:]
    assert told[ids[1]] == f"job {ids[0]}, which it depends on, is cancelled"
    assert told[ids[-1]] == f"job {ids[-2]}, which it depends on, is failed"


def test_a_worker_lets_go_of_jobs_that_it_has_no_trainer_for(database: Database, submit: Submit) -> None:
    trained, stray = (start(database, submit) for _ in range(2))
    start(database, submit, "worker-2")
    with database.write() as session:
        assert crew.disown(session, "worker-1", [trained.job_id], TERMS) == [stray.job_id]
    assert job(database, trained.job_id).status is JobStatus.RUNNING
    assert job(database, stray.job_id).reason_code == "worker_lost"

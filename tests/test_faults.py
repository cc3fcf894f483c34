"""Trainers that misbehave in every way that a program can: its job ends as it should, and nobody else notices."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aftermath
import httpx
import psutil
import pytest
from conftest import Serve, Until
from sqlalchemy import select
from test_worker import ENDLESS, LONG_LEASE, Place, Process, descendants, is_alive, small

from service import job_logs, runs
from service.states import EndReason, JobStatus
from service.tables import Job, WorkerRow
from workers.processes import Busy, memory_groups, seize

STALL_SECONDS = 6
LOG_MIB = 2
SWEPT_SECONDS = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, until: Until) -> Iterator[Place]:
    with Place.opened(tmp_path_factory.mktemp("faulty"), until) as made:
        yield made


@pytest.fixture(scope="module")
def shared(place: Place) -> Iterator[Process]:
    settings = {
        "TRAINBOX_SLOTS": "4",
        "TRAINBOX_STALL_SECONDS": str(STALL_SECONDS),
        "TRAINBOX_MAX_LOG_MIB": str(LOG_MIB),
        "TRAINBOX_STOP_SECONDS": "1",
    }
    with place.worker(**settings | LONG_LEASE) as process:
        yield process


@pytest.fixture(autouse=True)
def _worker(request: pytest.FixtureRequest) -> Iterator[None]:
    if "place" not in request.fixturenames:
        yield
        return
    process = request.getfixturevalue("shared")
    yield
    aftermath.check(request.getfixturevalue("place").settings)
    assert process.poll() is None, "a job may do anything, its worker lives on"


def faulty(fault: str, steps: int = 200, **more: Any) -> dict[str, Any]:
    return small(steps, tags={"fault": fault}, **more)


def ended(place: Place, fault: str, **more: Any) -> Job:
    return place.ended(place.submit(faulty(fault, **more)))


def test_a_trainer_without_progress_is_killed_and_its_job_started_again_once(place: Place) -> None:
    faults = ("sleep_in_a_step", "sleep_before_the_first_step", "talk_without_a_step", "stop_itself")
    began = time.monotonic()
    jobs = [place.submit(faulty(fault)) for fault in faults]
    for job_id in jobs:
        job = place.ended(job_id)
        assert (job.status, job.error_code) == (JobStatus.FAILED, EndReason.STALLED)
        assert job.signal == signal.SIGKILL
        assert job.error_message is not None
        assert job.error_message.startswith("its trainer took no step for ")
        assert place.attempts(job_id) == [(1, "stalled"), (2, "stalled")]
        assert place.events(job_id) == ["submitted", "started", "stalled", "started", "failed"]
    assert time.monotonic() - began < 2 * STALL_SECONDS + 15
    assert place.ended(place.submit(small(5))).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("fault", "exit_code", "number"),
    [
        ("exit_with_0", 0, None),
        ("exit_with_1", 1, None),
        ("exit_with_137", 137, None),
        ("read_nowhere", None, signal.SIGSEGV),
    ],
)
def test_a_trainer_that_ends_without_all_its_steps_has_failed(
    place: Place, fault: str, exit_code: int | None, number: int | None
) -> None:
    job = ended(place, fault)
    assert (job.status, job.error_code) == (JobStatus.FAILED, EndReason.ERROR)
    assert (job.exit_code, job.signal) == (exit_code, number)
    assert place.attempts(job.id) == [(1, "error")]


def test_training_goes_on_while_a_checkpoint_is_written_and_a_half_written_one_counts_for_nothing(place: Place) -> None:
    job_id = place.submit(faulty("write_its_first_checkpoint_for_ever", 300, checkpoints={"every_steps": 100}))
    place.until(lambda: place.job(job_id).step == 200)
    assert (place.folder(job_id, 1).parent / "checkpoints" / "a1-s100.tmp").is_dir()
    assert place.job(job_id).checkpoint_step == 0
    place.trainer(job_id).kill()
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert place.attempts(job_id) == [(1, "worker_lost"), (2, "succeeded")]
    assert [step for step, _ in place.losses(job_id)] == list(range(1, 301))
    assert place.job(job_id).checkpoint_step == 300


@pytest.mark.parametrize("fault", ["write_nonsense_into_its_spool", "leave_a_senseless_outcome"])
def test_what_nobody_can_read_of_a_trainer_fails_its_job_alone(place: Place, fault: str) -> None:
    other = place.submit(small(ENDLESS))
    running = place.trainer(other)
    job = ended(place, fault)
    assert (job.status, job.error_code) == (JobStatus.FAILED, EndReason.ERROR)
    assert "cannot be read" in (job.error_message or "")
    assert is_alive(running)
    place.cancel(other)
    place.ended(other)


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.chaos)])
def test_a_job_that_kills_what_started_it_every_time_fails_and_others_go_on(place: Place, times: int) -> None:
    other = place.submit(small(ENDLESS))
    running = place.trainer(other)
    job = ended(place, "kill_parent_and_itself", limits={"max_attempts": times})
    assert (job.status, job.error_code) == (JobStatus.FAILED, EndReason.WORKER_LOST)
    assert [end for _, end in place.attempts(job.id)] == ["worker_lost"] * times
    assert is_alive(running)
    assert place.attempts(other) == [(1, None)]
    jobs = [place.submit(small(ENDLESS)) for _ in range(3)]
    for job_id in jobs:
        place.trainer(job_id)
    assert {place.job(job_id).status for job_id in (other, *jobs)} == {JobStatus.RUNNING}, "all four slots are in use"
    for job_id in (other, *jobs):
        place.cancel(job_id)
        assert place.ended(job_id).status is JobStatus.CANCELLED


def offspring(job_id: str) -> list[psutil.Process]:
    """The processes that a job's trainer has left: what they were started with names it, or where they work."""
    found = []
    for process in psutil.process_iter():
        try:
            marked = f"/{job_id}/" in process.environ().get("TRAINBOX_ATTEMPT", "")
            inside = job_id in Path(process.cwd()).parts
        except psutil.Error:
            continue
        if (marked or inside) and is_alive(process):
            found.append(process)
    return found


def test_a_trainer_that_hears_no_sigterm_is_killed_with_all_that_it_left(place: Place, until: Until) -> None:
    job_id = place.submit(faulty("hear_no_sigterm", ENDLESS))
    trainer = place.trainer(job_id)
    until(lambda: len(offspring(job_id)) >= 2)
    asked = time.monotonic()
    place.cancel(job_id)
    assert place.ended(job_id).status is JobStatus.CANCELLED
    until(lambda: not offspring(job_id))
    assert time.monotonic() - asked < 1 + SWEPT_SECONDS
    assert not is_alive(trainer)


def test_a_hundred_children_are_gone_soon_after_their_trainer(place: Place, until: Until) -> None:
    job = ended(place, "leave_children")
    finished = time.monotonic()
    assert job.status is JobStatus.SUCCEEDED
    until(lambda: not offspring(job.id))
    assert time.monotonic() - finished < SWEPT_SECONDS


HOLD = "import fcntl, os, sys, time; os.setsid(); fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX); print(1, flush=True)"


def test_the_lock_of_a_job_is_taken_from_older_attempts_wherever_they_are_and_not_from_newer_ones(
    tmp_path: Path,
) -> None:
    job, copied = tmp_path / "home" / "00000000-job00000", tmp_path / "copy of the home" / "00000000-job00000"
    lock = job / "attempt.lock"

    def hold(folder: Path, *, marked: bool = False) -> subprocess.Popen[bytes]:
        """A process of the attempt with this folder, told by its mark or else by where it works."""
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder.parent / "attempt.lock", os.O_RDWR | os.O_CREAT)
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", f"{HOLD}; time.sleep(60)", str(descriptor)],
            cwd=tmp_path if marked else folder,
            env={"TRAINBOX_ATTEMPT": str(folder)} if marked else {},
            pass_fds=[descriptor],
            stdout=subprocess.PIPE,
        )
        os.close(descriptor)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    with hold(copied / "a1") as elsewhere:
        for number, marked in ((1, False), (2, True)):
            with hold(job / f"a{number}", marked=marked) as older:
                os.close(seize(lock, 3))
                assert older.wait(10) == -signal.SIGKILL
        assert elsewhere.poll() is None, "a copy of the home that is served too has jobs of the same ids"
        elsewhere.kill()
    with hold(job / "a4") as newer:
        with pytest.raises(Busy):
            seize(lock, 3, seconds=0.2)
        assert newer.poll() is None
        newer.kill()


def test_nothing_lives_on_of_a_job_whose_worker_is_told_to_stop(place: Place, until: Until) -> None:
    with place.worker(TRAINBOX_SLOTS="5") as other:
        job_id = place.submit(faulty("leave_a_deaf_family", ENDLESS, resources={"threads": 5}))
        place.trainer(job_id)
        until(lambda: len(offspring(job_id)) >= 5)
        other.terminate()
        assert other.wait(20) == 0
        assert place.attempts(job_id) == [(1, "drained")]
        assert not offspring(job_id)
    place.cancel(job_id)


def test_nothing_lives_on_of_a_job_that_ends_with_its_worker(place: Place, until: Until) -> None:
    """It is not started again, so nobody would have to end what is left of it."""
    with place.worker(TRAINBOX_SLOTS="5") as other:
        only_there = {"resources": {"threads": 5}, "limits": {"max_attempts": 1}}
        job_id = place.submit(faulty("hear_no_sigterm", ENDLESS, **only_there))
        place.trainer(job_id)
        until(lambda: len(offspring(job_id)) >= 2)
        other.kill()
        assert place.ended(job_id).error_code is EndReason.WORKER_LOST
        ended_at = time.monotonic()
        until(lambda: not offspring(job_id))
        assert time.monotonic() - ended_at < SWEPT_SECONDS


@pytest.mark.chaos
def test_what_a_dead_workers_trainer_left_keeps_no_other_from_its_job(place: Place, until: Until) -> None:
    with place.slots_taken(4) as free, place.worker() as other:
        job_id = place.submit(faulty("hear_no_sigterm", ENDLESS))
        trainer = place.trainer(job_id)
        family = [*descendants(other), *offspring(job_id)]
        free()
        trainer.suspend()
        other.kill()
        place.trainer(job_id, attempt=2)
        assert not [process for process in family if is_alive(process)]
        place.cancel(job_id)
        assert place.ended(job_id).status is JobStatus.CANCELLED


def test_a_trainer_that_takes_too_much_memory_fails_with_a_reason_that_names_it(place: Place) -> None:
    other = place.submit(small(ENDLESS))
    running = place.trainer(other)
    job = ended(place, "take_all_memory", resources={"memory_mib": 1500})
    assert (job.status, job.error_code) == (JobStatus.FAILED, EndReason.OOM_HOST)
    assert job.error_message is not None
    assert "1500 MiB of memory" in job.error_message
    assert place.attempts(job.id) == [(1, "oom_host")]
    assert is_alive(running)
    place.cancel(other)
    place.ended(other)


@contextmanager
def memory_group(mebibytes: int) -> Iterator[Path]:
    """A control group whose processes may use so much memory together."""
    group = memory_groups()[0] / f"of-a-test-{os.getpid()}"
    limits = [group / "memory.max", group / "memory.limit_in_bytes"]
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control group can be made here")
    try:
        if not (known := [limit for limit in limits if limit.exists()]):
            pytest.skip("control groups tell nothing of memory here")
        known[0].write_text(str(mebibytes << 20))
        yield group
    finally:
        group.rmdir()


INTO_GROUP = 'echo $$ > "$0/cgroup.procs" && exec "$1" -m workers'


@pytest.mark.chaos
def test_a_trainer_that_the_kernel_kills_for_memory_fails_with_that_reason(place: Place, until: Until) -> None:
    settings = LONG_LEASE | {"TRAINBOX_SLOTS": "10", "TRAINBOX_TRAINER_MEMORY_MIB": "1000000"}
    only_there = {"resources": {"threads": 5}}
    with memory_group(1000) as group:
        with place.worker("sh", "-c", INTO_GROUP, str(group), sys.executable, **settings) as other:
            lease = select(WorkerRow.lease_until).where(WorkerRow.pid == other.pid)
            steady = place.submit(small(ENDLESS, **only_there))
            trainer = place.trainer(steady)
            job = ended(place, "fill_the_memory", **only_there)
            assert (job.status, job.error_code, job.signal) == (JobStatus.FAILED, EndReason.OOM_HOST, signal.SIGKILL)
            assert "out of memory" in (job.error_message or "")
            assert place.attempts(job.id) == [(1, "oom_host")]
            for _ in range(3):  # what the kernel did some looks ago says nothing of who dies now
                renewed = place.scalar(lease)
                until(lambda before=renewed: place.scalar(lease) > before)  # type: ignore[misc]
            trainer.kill()
            place.trainer(steady, attempt=2)
            assert place.attempts(steady) == [(1, "worker_lost"), (2, None)]
            place.cancel(steady)
            place.ended(steady)
        until(lambda: not (group / "cgroup.procs").read_text())


# Logs


def whole(log: Path, most: int = 1 << 20) -> bytes:
    """All that a reader is shown."""
    shown, offset, more = b"", 0, True
    while more:
        part = job_logs.read(log, offset, most)
        shown, offset, more = shown + part.content, part.next_offset, part.more
    return shown


@pytest.mark.parametrize("fault", ["print_much", pytest.param("print_a_gigabyte", marks=pytest.mark.chaos)])
def test_a_trainer_that_prints_without_end_is_not_held_up_and_its_log_keeps_both_ends(
    place: Place, reader: httpx.Client, fault: str
) -> None:
    job = ended(place, fault)
    assert job.status is JobStatus.SUCCEEDED
    log = place.folder(job.id, 1) / "log"
    assert log.stat().st_size > 4 * LOG_MIB << 20
    assert log.stat().st_blocks * 512 <= (LOG_MIB << 20) + (1 << 16)
    shown, slowest = read_over_http(reader, job.id)
    assert slowest < 1
    assert len(shown) <= (LOG_MIB << 20) + 1000
    assert shown.count(b" bytes are left out here ---\n") == 1
    assert max(map(len, shown.splitlines())) <= job_logs.LINE_BYTES + len(job_logs.LONG_LINE)
    assert b"\nthe last line\n" in shown
    assert shown.splitlines()[-1].endswith(b"trained 200 steps")


@pytest.fixture
def reader(place: Place, serve: Serve) -> Iterator[httpx.Client]:
    """The admin's client of a service on the home."""
    url = serve(with_settings=place.settings.model_copy(update={"port": 0})).url
    headers = {"Authorization": f"Bearer {place.settings.token_path.read_text().strip()}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        yield client


def read_over_http(client: httpx.Client, job_id: str) -> tuple[bytes, float]:
    """All of a job's log, from offset to offset, and the seconds of this process that the slowest answer took."""
    shown, offset, slowest = b"", 0, 0.0
    while True:
        began = time.process_time()  # the server's too; what others compute beside it does not count
        answer = client.get(f"/v1/jobs/{job_id}/logs", params={"offset": offset}).raise_for_status()
        slowest = max(slowest, time.process_time() - began)
        shown += answer.content
        if (next_offset := int(answer.headers["X-Next-Offset"])) == offset:
            return shown, slowest
        offset = next_offset


def test_operations_that_are_not_deterministic_are_recorded_once(place: Place) -> None:
    job = ended(place, "compute_inexactly")
    assert job.status is JobStatus.SUCCEEDED
    assert place.events(job.id) == ["submitted", "started", "inexact", "succeeded"]
    with place.database.read() as session:
        [doubt] = runs.doubts(session, job.seq)
    assert doubt["message"] == (
        "the same spec may give another curve: put_ does not have a deterministic implementation"
    )
    assert doubt["step"] < 20


def test_a_trainer_that_closes_its_log_trains_on(place: Place) -> None:
    assert ended(place, "close_the_log").status is JobStatus.SUCCEEDED


def test_a_log_is_read_from_any_offset_whatever_was_taken_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = b"".join(b"line %05d\n" % number for number in range(10_000))
    log.write_bytes(lines)
    job_logs.trim(log, len(lines))
    assert whole(log) == lines
    job_logs.trim(log, 20_000)
    first, end = lines[:10_000], lines[-10_000:]
    gap = len(lines) - 20_000
    assert whole(log, 999) == first + b"\n--- %d bytes are left out here ---\n" % gap + end
    assert job_logs.read(log, 9_990, 100).content == lines[9_990:10_000]
    assert job_logs.read(log, 20_000, 5).content.startswith(b"\n--- %d bytes" % (gap - 10_000))
    assert job_logs.read(log, len(lines) - 11, 100) == job_logs.Part(lines[-11:], len(lines), more=False)
    with log.open("ab") as file:
        file.write(lines)
    job_logs.trim(log, 20_000)
    assert whole(log) == first + b"\n--- %d bytes are left out here ---\n" % (gap + len(lines)) + end
    assert log.stat().st_size == 2 * len(lines), "offsets stay what they were"


@pytest.mark.parametrize("most", [1 << 20, 70_000, 4096])
def test_a_long_line_is_cut_wherever_reading_begins(tmp_path: Path, most: int) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"short\n" + b"x" * 200_000 + b"\nafter\n")
    cut = b"x" * job_logs.LINE_BYTES + job_logs.LONG_LINE
    assert whole(log, most) == b"short\n" + cut + b"\nafter\n"


def test_a_link_in_the_place_of_a_log_or_of_its_folders_is_neither_read_nor_trimmed(tmp_path: Path) -> None:
    secret = tmp_path / "others-job" / "a1" / "log"
    secret.parent.mkdir(parents=True)
    secret.write_bytes(b"x" * 1000)
    (tmp_path / "job" / "a1").mkdir(parents=True)
    (tmp_path / "job" / "a2").symlink_to(secret.parent)
    (tmp_path / "linked-job").symlink_to(secret.parents[1])
    log = tmp_path / "job" / "a1" / "log"

    def is_left_alone(path: Path) -> None:
        job_logs.trim(path, 10)
        assert job_logs.read(path, 0, 100).content == b""

    for make in (os.symlink, os.link):
        make(secret, log)
        is_left_alone(log)
        log.unlink()
    is_left_alone(tmp_path / "job" / "a2" / "log")
    is_left_alone(tmp_path / "linked-job" / "a1" / "log")
    assert secret.read_bytes() == b"x" * 1000
    assert job_logs.read(secret, 0, 100).content == b"x" * 100

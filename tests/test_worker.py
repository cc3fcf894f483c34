"""A real worker and its trainers: what becomes of jobs when processes are asked to stop, killed, or stopped."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import aftermath
import numpy as np
import psutil
import pytest
from boxes import FAULTY, WORKER, worker
from conftest import Until
from sqlalchemy import func, select

from service import bell, clock, control, home, intake, leases, locks, queue
from service.database import Database
from service.leases import Lease
from service.queue import QueueLimits
from service.settings import Settings
from service.states import EndReason, JobStatus, Scope
from service.tables import Attempt, Job, JobEvent, Point, Series, WorkerRow
from service.users import Principal
from workers import endings, spool
from workers.endings import Asked, Drained, Ending, Failed, Lost, Stopped, Succeeded
from workers.launcher import Launcher
from workers.outcomes import Outcome, Status
from workers.processes import seize
from workers.trainer import Order

ADMIN = Principal("admin", Scope.ADMIN, "")
STOP_SECONDS = 15
OF_WORKERS = {
    "PYTHONPATH": str(FAULTY),
    "TRAINBOX_SLOTS": "2",
    "TRAINBOX_LEASE_SECONDS": "3",
    "TRAINBOX_BACKOFF_SECONDS": "0",
    "TRAINBOX_STOP_SECONDS": str(STOP_SECONDS),
    "TRAINBOX_TOKEN": "tbx_a-secret-of-the-service",
    "ANOTHER_SECRET": "a-secret-of-the-service",
}
LONG_LEASE = {"TRAINBOX_LEASE_SECONDS": "10"}  # however busy the machine is, no worker is thought to hang
SETS = {
    "digits": "classification",
    "breast_cancer": "classification",
    "wine": "classification",
    "iris": "classification",
    "diabetes": "regression",
}
SECONDS_LONG = 3000  # steps of the small model: about as long as a process takes to be killed
ENDLESS = 100_000_000

Process = subprocess.Popen[bytes]
Spec = dict[str, Any]


def small(steps: int, **more: Any) -> Spec:
    return {
        "task": "classification",
        "dataset": "iris",
        "model": {"type": "linear"},
        "hyperparameters": {"max_steps": steps, "batch_size": 16},
        "validation": {"every_steps": 1000},
        **more,
    }


class Place:
    """A home with data sets, its queue, and a worker that all tests share."""

    def __init__(self, settings: Settings, until: Until) -> None:
        self.settings, self.until = settings, until
        self.database = Database(settings.database_path)

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, until: Until) -> Iterator[Self]:
        """In a home of its own, which must be in order when it is left."""
        settings = Settings(home=folder / "home")
        home.prepare(settings)
        place = cls(settings, until)
        yield place
        place.database.close()
        aftermath.check_stopped(settings)
        aftermath.check_private(settings)

    @contextmanager
    def worker(self, *program: str, **more: str) -> Iterator[Process]:
        """A worker that is ready; none of its processes is left in the end. program: that becomes one."""
        with worker(self.settings.home, program or WORKER, **OF_WORKERS | more) as process:
            self.until(lambda: self._is_ready(process))
            yield process
            family = descendants(process)
        assert gone(family)

    def _is_ready(self, process: Process) -> bool:
        assert process.poll() is None, "the worker ended before it was ready"
        with self.database.read() as session:
            return session.scalars(select(WorkerRow.id).where(WorkerRow.pid == process.pid)).one_or_none() is not None

    @contextmanager
    def slots_taken(self, slots: int) -> Iterator[Callable[[], None]]:
        """A stopped job holds so many slots of the shared worker, until the function that is given is called."""
        blocker = self.submit(small(ENDLESS, resources={"threads": slots}))
        self.trainer(blocker).suspend()

        def free() -> None:
            self.cancel(blocker)
            self.ended(blocker)

        try:
            yield free
        finally:
            free()

    def submit(self, spec: Spec) -> str:
        with self.database.write() as session:
            made = intake.draft(session, ADMIN, spec)
            job_id = queue.submit(session, ADMIN, made, QueueLimits(1000, 1000))
        bell.ring(self.settings.run_path)
        return job_id

    def cancel(self, job_id: str) -> None:
        with self.database.write() as session:
            control.cancel(session, ADMIN, job_id)
        bell.ring(self.settings.run_path)

    def scalar(self, query: Any) -> Any:
        with self.database.read() as session:
            return session.scalars(query).one()

    def job(self, job_id: str) -> Job:
        with self.database.read() as session:
            return session.scalars(select(Job).where(Job.id == job_id)).one()

    def ended(self, job_id: str) -> Job:
        """The job when it is over."""
        self.until(lambda: self.job(job_id).finished_at)
        return self.job(job_id)

    def attempts(self, job_id: str) -> list[tuple[int, str | None]]:
        """Number and end of each."""
        return [(attempt.number, attempt.ended) for attempt in self._attempts(job_id)]

    def _attempts(self, job_id: str) -> list[Attempt]:
        query = select(Attempt).join(Job, Job.seq == Attempt.job).where(Job.id == job_id).order_by(Attempt.number)
        with self.database.read() as session:
            return list(session.scalars(query))

    def trainer(self, job_id: str, attempt: int = 1) -> psutil.Process:
        """The process of an attempt that has recorded its first steps."""
        self.until(lambda: [each for each in self._attempts(job_id) if each.number == attempt and each.pid])
        return psutil.Process(next(each.pid for each in self._attempts(job_id) if each.number == attempt))

    def losses(self, job_id: str) -> list[tuple[int, float | None]]:
        """Step and value of each point of train_loss, in order of recording."""
        query = (
            select(Point.step, Point.value)
            .join(Series, Series.id == Point.series)
            .join(Job, Job.seq == Series.run)
            .where(Job.id == job_id, Series.name == "train_loss")
            .order_by(Point.position)
        )
        with self.database.read() as session:
            return [(row.step, row.value) for row in session.execute(query)]

    def events(self, job_id: str) -> list[str]:
        query = select(JobEvent.code).join(Job, Job.seq == JobEvent.job).where(Job.id == job_id).order_by(JobEvent.id)
        with self.database.read() as session:
            return list(session.scalars(query))

    def folder(self, job_id: str, attempt: int) -> Path:
        return self.settings.jobs_path / job_id / f"a{attempt}"


def descendants(process: Process) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them are, at the latest after the ten seconds that a trainer has."""
    end = time.monotonic() + 10
    while any(is_alive(process) for process in processes) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(is_alive(process) for process in processes)


def resident(process: Process) -> int:
    """Bytes of memory of a worker and its forkserver."""
    return sum(each.memory_info().rss for each in (psutil.Process(process.pid), forkserver(process)))


def forkserver(process: Process) -> psutil.Process:
    [found] = psutil.Process(process.pid).children()
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, until: Until) -> Iterator[Place]:
    with Place.opened(tmp_path_factory.mktemp("place"), until) as made:
        yield made


@pytest.fixture(scope="module")
def shared(place: Place) -> Iterator[Process]:
    with place.worker() as process:
        yield process


@pytest.fixture(autouse=True)
def _swept(place: Place, shared: Process) -> Iterator[None]:
    yield
    aftermath.check(place.settings)
    assert shared.poll() is None, "a job may do anything, its worker lives on"


def test_each_data_set_is_trained_to_its_last_step(place: Place) -> None:
    jobs = [
        place.submit({"task": task, "dataset": name, "hyperparameters": {"epochs": 3}}) for name, task in SETS.items()
    ]
    for job_id in jobs:
        job = place.ended(job_id)
        assert (job.status, job.attempt, job.error_code) == (JobStatus.SUCCEEDED, 1, None)
        assert [step for step, _ in place.losses(job_id)] == list(range(1, job.plan["total_steps"] + 1))
        assert job.step == job.plan["total_steps"]
        assert place.attempts(job_id) == [(1, "succeeded")]


@pytest.mark.parametrize("count", [40, *(pytest.param(many, marks=pytest.mark.chaos) for many in (100, 300))])
def test_many_jobs_on_one_slot_start_in_order_and_leave_nothing_open(place: Place, shared: Process, count: int) -> None:
    with place.slots_taken(1):
        place.ended(place.submit(small(1)))
        before = psutil.Process(shared.pid).num_fds()
        jobs = [place.submit(small(1, validation={"fraction": 0.0})) for _ in range(count)]
        place.ended(jobs[count // 5])
        memory = resident(shared)
        for job_id in jobs:
            assert place.ended(job_id).status is JobStatus.SUCCEEDED
        with place.database.read() as session:
            started = select(Job.id).join(JobEvent, JobEvent.job == Job.seq).where(JobEvent.code == "started")
            assert session.scalars(started.where(Job.id.in_(jobs)).order_by(JobEvent.id)).all() == jobs
        assert psutil.Process(shared.pid).num_fds() <= before + 2  # the pools of connections breathe
        assert resident(shared) < 1.1 * memory
    assert len(descendants(shared)) == 1, "the forkserver alone is left"


@pytest.mark.parametrize(("workers", "count"), [(2, 24), pytest.param(8, 500, marks=pytest.mark.chaos)])
@pytest.mark.timeout(1200)
def test_several_workers_train_each_job_once(place: Place, workers: int, count: int) -> None:
    with place.slots_taken(2) as free, ExitStack() as at_work:
        for _ in range(workers - 1):
            at_work.enter_context(place.worker(TRAINBOX_LEASE_SECONDS="30"))
        free()
        jobs = [place.submit(small(1, validation={"fraction": 0.0})) for _ in range(count)]
        for job_id in jobs:
            assert place.ended(job_id).status is JobStatus.SUCCEEDED
            assert place.attempts(job_id) == [(1, "succeeded")]
            assert place.events(job_id) == ["submitted", "started", "succeeded"]
        took_part = select(func.count(Attempt.worker.distinct())).join(Job, Job.seq == Attempt.job)
        assert place.scalar(took_part.where(Job.id.in_(jobs))) > 1


SHIFT_THE_WALL_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long shift(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("SHIFTED_BY"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(id, now);
    if (status == 0 && id == CLOCK_REALTIME) now->tv_sec += shift();
    return status;
}
"""


@pytest.fixture
def wall_clock(tmp_path: Path) -> dict[str, str]:
    """An environment in which the wall clock is as many seconds ahead as the file says, and no other clock is."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the wall clock of a process can only be shifted with a C compiler")
    library = tmp_path / "wall_clock.so"
    (tmp_path / "wall_clock.c").write_text(SHIFT_THE_WALL_CLOCK)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(tmp_path / "wall_clock.c"), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return {"LD_PRELOAD": str(library), "SHIFTED_BY": str(tmp_path / "seconds")}


def until_all_go_on(place: Place, reached: dict[str, int]) -> None:
    place.until(lambda: all(place.job(job_id).step > step for job_id, step in reached.items()))


def test_a_wall_clock_that_jumps_by_two_hours_starts_nothing_anew(place: Place, wall_clock: dict[str, str]) -> None:
    with place.slots_taken(2), place.worker(**wall_clock | {"TRAINBOX_SLOTS": "4"}) as other:
        running = [place.submit(small(ENDLESS)) for _ in range(4)]
        waiting = [place.submit(small(1)) for _ in range(3)]
        for job_id in running:
            place.trainer(job_id)
        for hours in (2, -2):
            Path(wall_clock["SHIFTED_BY"]).write_text(str(3600 * hours))
            reached = {job_id: place.job(job_id).step for job_id in running}
            mine = select(WorkerRow.lease_until).where(WorkerRow.pid == other.pid)
            before = place.scalar(mine)
            place.until(lambda mine=mine, before=before: place.scalar(mine) > before + 2000)  # type: ignore[misc]
            until_all_go_on(place, reached)
            assert [place.attempts(job_id) for job_id in running] == [[(1, None)]] * 4
        place.cancel(running[0])
        ended = place.ended(running[0])
        assert ended.started_at is not None
        assert ended.finished_at is not None
        assert ended.finished_at < ended.started_at, "times are those of the wall clock, for people alone"
        for job_id in waiting:
            assert place.ended(job_id).status is JobStatus.SUCCEEDED
        for job_id in running[1:]:
            place.cancel(job_id)
            assert place.ended(job_id).status is JobStatus.CANCELLED
            assert place.attempts(job_id) == [(1, "cancelled")]


def test_a_trainer_sees_nothing_of_the_service(place: Place) -> None:
    job_id = place.submit(small(ENDLESS))
    trainer = place.trainer(job_id)
    environment = trainer.environ()
    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV"}
    allowed |= {"LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONUNBUFFERED", "CUBLAS_WORKSPACE_CONFIG"}
    allowed.add("TORCH_CPP_LOG_LEVEL")
    assert {name for name in environment if not name.startswith(("CUDA_", "NVIDIA_", "NCCL_"))} <= allowed
    assert "secret" not in "".join(environment.values())
    opened = {path.name: os.readlink(path) for path in Path(f"/proc/{trainer.pid}/fd").iterdir()}
    assert opened["0"] == os.devnull
    assert opened["1"] == opened["2"] == str(place.folder(job_id, 1) / "log")
    assert not [path for path in opened.values() if "trainbox.db" in path or "/run/" in path]
    assert trainer.cwd() == str(place.folder(job_id, 1))
    assert os.getsid(trainer.pid) == os.getpgid(trainer.pid) == trainer.pid
    place.cancel(job_id)
    place.ended(job_id)


def test_a_running_job_is_cancelled_after_its_step(place: Place) -> None:
    job_id = place.submit(small(ENDLESS))
    trainer = place.trainer(job_id)
    place.cancel(job_id)
    assert place.ended(job_id).status is JobStatus.CANCELLED
    assert place.attempts(job_id) == [(1, "cancelled")]
    assert not is_alive(trainer)
    losses = place.losses(job_id)
    assert [step for step, _ in losses] == list(range(1, len(losses) + 1))
    assert place.job(job_id).step == len(losses)


def test_a_trainer_that_is_asked_to_stop_the_moment_it_is_forked_does(
    place: Place, until: Until, tmp_path: Path
) -> None:
    pattern = place.ended(place.submit(small(1)))
    launcher = Launcher(memory_bytes=1 << 33)
    launcher.warm()
    until(lambda: launcher.poll() == [] and launcher.ready)
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        order = Order(
            job_id=pattern.id,
            attempt=1,
            spec=small(ENDLESS),
            plan={**pattern.plan, "total_steps": ENDLESS},
            classes=3,
            dataset_path=str(place.settings.datasets_path / pattern.dataset_id),
            dataset_sha256="",
            checkpoints_path=str(folder / "checkpoints"),
            checkpoints=[],
            resumed_path=str(folder / "resumed.json"),
            spool_path=str(folder / "spool"),
            outcome_path=str(folder / "outcome.json"),
            device="cpu",
        )
        trainer = launcher.start(order, folder / "order.json", seize(folder / "attempt.lock", 1))
        launcher.stop(trainer)
        until(launcher.poll)
        launcher.forget(trainer)
    launcher.close()


def test_a_job_that_could_not_be_started_lets_go_of_its_lock_and_starts_again(place: Place) -> None:
    with place.slots_taken(2):
        job_id = place.submit(small(1))
        place.folder(job_id, 1).parent.mkdir()
        place.folder(job_id, 1).write_text("a file where a folder is to be")
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert place.attempts(job_id) == [(1, "worker_lost"), (2, "succeeded")]


def test_a_job_whose_trainer_is_killed_starts_again_and_gives_the_same_curve(place: Place) -> None:
    undisturbed, killed = place.submit(small(SECONDS_LONG)), place.submit(small(SECONDS_LONG))
    place.trainer(killed).kill()
    job = place.ended(killed)
    assert (job.status, job.error_code, job.signal) == (JobStatus.SUCCEEDED, None, None)
    assert place.attempts(killed) == [(1, "worker_lost"), (2, "succeeded")]
    assert place.events(killed) == ["submitted", "started", "worker_lost", "started", "succeeded"]
    assert place.ended(undisturbed).status is JobStatus.SUCCEEDED
    assert len(place.losses(killed)) == SECONDS_LONG
    assert place.losses(killed) == place.losses(undisturbed)


def test_a_job_whose_trainer_is_killed_every_time_fails(place: Place) -> None:
    job_id = place.submit(small(ENDLESS, limits={"max_attempts": 2}))
    for attempt in (1, 2):
        place.trainer(job_id, attempt).kill()
    job = place.ended(job_id)
    assert (job.status, job.error_code, job.signal) == (JobStatus.FAILED, EndReason.WORKER_LOST, signal.SIGKILL)
    assert place.attempts(job_id) == [(1, "worker_lost"), (2, "worker_lost")]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGRTMIN + 3])
def test_a_trainer_that_dies_of_a_signal_of_its_own_fails_the_job(place: Place, number: int) -> None:
    job_id = place.submit(small(ENDLESS))
    place.trainer(job_id).send_signal(number)
    job = place.ended(job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, EndReason.ERROR)
    assert (job.signal, job.exit_code) == (number, None)
    assert place.attempts(job_id) == [(1, "error")]


def test_a_job_that_runs_longer_than_it_may_fails_and_keeps_its_curve(place: Place) -> None:
    job_id = place.submit(small(ENDLESS, limits={"max_seconds": 0.3}))
    job = place.ended(job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, EndReason.TIME_LIMIT)
    losses = place.losses(job_id)
    assert [step for step, _ in losses] == list(range(1, len(losses) + 1))


def test_a_trainer_whose_lease_is_lost_is_killed_and_adds_no_point(place: Place) -> None:
    job_id = place.submit(small(ENDLESS))
    trainer, job = place.trainer(job_id), place.job(job_id)
    assert job.worker is not None
    with place.database.write() as session:
        leases.fail(session, Lease(job.seq, job_id, 1, job.worker), EndReason.WORKER_LOST, "taken away", None, None)
        kept = session.scalars(select(func.count()).select_from(Point)).one()
    assert gone([trainer])
    with place.database.read() as session:
        assert session.scalars(select(func.count()).select_from(Point)).one() == kept
    assert place.job(job_id).error_message == "taken away"


def test_what_a_forgotten_attempt_of_the_same_number_left_is_not_believed(place: Place) -> None:
    with place.slots_taken(2):
        job_id = place.submit(small(20))
        folder = place.folder(job_id, 1)
        folder.mkdir(parents=True)
        (folder / "outcome.json").write_text('{"status": "succeeded", "code": null, "message": "", "steps": 20}')
        writer = spool.Writer(folder / "spool", ["train_loss"])
        writer.append(np.array([(0, step, 0.0, 0.0) for step in range(1, 21)], spool.RECORD))
        writer.close()
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert place.attempts(job_id) == [(1, "succeeded")]
    assert len(place.losses(job_id)) == 20
    assert all(value for _, value in place.losses(job_id))


def test_a_running_trainer_outlives_its_forkserver_and_new_jobs_get_a_new_one(place: Place, shared: Process) -> None:
    running = place.submit(small(ENDLESS))
    trainer = place.trainer(running)
    forkserver(shared).kill()
    other = place.submit(small(5))
    assert place.ended(other).status is JobStatus.SUCCEEDED
    reached = place.job(running).step
    place.until(lambda: place.job(running).step > reached)
    assert place.attempts(running) == [(1, None)]
    trainer.kill()
    assert place.trainer(running, attempt=2) != trainer
    place.cancel(running)
    place.ended(running)


def test_a_worker_that_is_told_to_stop_gives_its_jobs_back_and_takes_no_other(place: Place) -> None:
    with place.slots_taken(2), place.worker() as other:
        jobs = [place.submit(small(ENDLESS, limits={"max_attempts": 1})) for _ in range(2)]
        trainers = [place.trainer(job_id) for job_id in jobs]
        waiting = place.submit(small(1))
        family = descendants(other)
        other.terminate()
        assert other.wait(STOP_SECONDS) == 0
        assert gone([*family, *trainers])
        for job_id in jobs:
            job = place.job(job_id)
            assert (job.status, job.reason_code, job.excused_attempts) == (JobStatus.QUEUED, "drained", 1)
            assert job.checkpoint_step == job.step > 0
            assert place.attempts(job_id) == [(1, "drained")]
            assert [step for step, _ in place.losses(job_id)] == list(range(1, job.step + 1))
        assert place.job(waiting).attempt == 0
    for job_id in jobs:
        place.trainer(job_id, attempt=2)
        place.cancel(job_id)
        assert place.ended(job_id).status is JobStatus.CANCELLED
    assert place.ended(waiting).status is JobStatus.SUCCEEDED


def test_further_signals_end_trainers_in_the_middle_of_a_step_and_their_jobs_start_elsewhere(place: Place) -> None:
    slow = small(1, limits={"max_attempts": 1}, dataset="digits")
    slow["model"] = {"type": "mlp", "hidden_sizes": [4096, 4096]}
    slow["hyperparameters"] = {"max_steps": 1, "batch_size": "full"}
    with place.slots_taken(2), place.worker() as other:
        quick = place.submit(small(SECONDS_LONG, limits={"max_attempts": 1}))
        place.trainer(quick)
        job_id = place.submit(slow)
        place.until(lambda: (place.folder(job_id, 1) / "spool").exists())
        family = descendants(other)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            other.send_signal(number)
        assert other.wait(5) == 0
        assert gone(family)
        assert place.attempts(job_id) == [(1, "drained")]
        assert place.losses(job_id) == []
    for each, steps in ((quick, SECONDS_LONG), (job_id, 1)):
        assert place.ended(each).status is JobStatus.SUCCEEDED
        assert [step for step, _ in place.losses(each)] == list(range(1, steps + 1))


def test_a_killed_workers_job_goes_to_another_once_no_trainer_of_it_is_left(place: Place) -> None:
    with place.slots_taken(2) as free, place.worker() as other:
        job_id = place.submit(small(SECONDS_LONG))
        trainer = place.trainer(job_id)
        trainer.suspend()  # it cannot hear that its worker is gone
        family = descendants(other)
        free()
        killed = time.monotonic()
        other.kill()
        place.until(lambda: (place.folder(job_id, 2) / "spool").exists())
        assert not is_alive(trainer)
        assert time.monotonic() - killed < 5
        assert place.ended(job_id).status is JobStatus.SUCCEEDED
        assert place.attempts(job_id) == [(1, "worker_lost"), (2, "succeeded")]
        assert [step for step, _ in place.losses(job_id)] == list(range(1, SECONDS_LONG + 1))
        assert gone(family)


def test_a_stopped_workers_job_goes_to_another_and_never_has_two_trainers(place: Place) -> None:
    with place.slots_taken(2) as free, place.worker() as other:
        job_id = place.submit(small(ENDLESS))
        trainer = place.trainer(job_id)
        free()
        other.send_signal(signal.SIGSTOP)
        place.until(lambda: (place.folder(job_id, 2) / "spool").exists())
        assert not is_alive(trainer)
        assert other.wait(5) == -signal.SIGKILL
        place.trainer(job_id, attempt=2)
        assert place.attempts(job_id) == [(1, "worker_lost"), (2, None)]
        place.cancel(job_id)
        place.ended(job_id)


def test_a_worker_renews_its_lease_between_two_starts_that_take_long(place: Place, shared: Process) -> None:
    locked: dict[str, int] = {}
    with place.database.write() as session:
        made = intake.draft(session, ADMIN, small(1))
        for _ in range(2):
            job_id = queue.submit(session, ADMIN, made, QueueLimits(1000, 1000))
            folder = place.settings.jobs_path / job_id
            folder.mkdir(mode=0o700)
            locked[job_id] = locks.make(folder / "attempt.lock")  # as a process of an older attempt would hold it
    bell.ring(place.settings.run_path)
    first, second = locked
    lease_until = select(WorkerRow.lease_until).where(WorkerRow.pid == shared.pid)
    lease_milliseconds = int(OF_WORKERS["TRAINBOX_LEASE_SECONDS"]) * 1000
    try:
        place.until(lambda: place.job(first).status is JobStatus.RUNNING)
        before = place.scalar(lease_until)
        place.until(lambda: clock.boot_milliseconds() > before - lease_milliseconds + lease_milliseconds // 5)
        os.close(locked.pop(first))
        place.until(lambda: place.job(second).status is JobStatus.RUNNING)
        assert place.scalar(lease_until) > before
    finally:
        for lock in locked.values():
            os.close(lock)
    for job_id in (first, second):
        assert place.ended(job_id).status is JobStatus.SUCCEEDED
        assert place.attempts(job_id) == [(1, "succeeded")]


HOLD_THE_WRITE_LOCK = """
import os, signal, sys
from service import crew, leases, locks
from service.database import Database
from service.settings import Settings
settings = Settings()
database = Database(settings.database_path)
lock = locks.make(crew.worker_lock(settings.run_path, "a-stopped-worker"))
with database.write() as session:
    crew.register(session, "a-stopped-worker", os.getpid(), 1, [], leases.Terms(-60.0, 0.0))
with database.write() as session:
    crew.unregister(session, "a-stopped-worker")
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_worker_that_is_stopped_while_it_writes_is_ended_so_that_others_can(place: Place) -> None:
    environment = os.environ | {"TRAINBOX_HOME": str(place.settings.home)}
    with subprocess.Popen([sys.executable, "-c", HOLD_THE_WRITE_LOCK], env=environment) as stopped:
        try:
            assert stopped.wait(20) == -signal.SIGKILL
        finally:
            stopped.kill()
    assert place.ended(place.submit(small(1))).status is JobStatus.SUCCEEDED


def test_the_worker_itself_needs_no_torch() -> None:
    script = "import sys, workers.__main__; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "workers.worker" in loaded
    assert "torch" not in loaded


SUCCESS, STOP = Outcome(Status.SUCCEEDED, "", 10), Outcome(Status.STOPPED, "", 3)
CRASH = Outcome(Status.FAILED, "no memory", 3, EndReason.OOM_HOST)


@pytest.mark.parametrize(
    ("outcome", "wait_status", "steps", "asked", "for_memory", "ending"),
    [
        (SUCCESS, 0, 10, None, False, Succeeded()),
        (SUCCESS, 0, 9, None, False, Failed(EndReason.ERROR, "the trainer ended with 9 of 10 steps", 0)),
        (SUCCESS, 9, 10, None, False, Lost("its trainer was killed", 9)),
        (SUCCESS, 0, 10, Asked.DRAIN, False, Succeeded()),
        (SUCCESS, 0, 10, Asked.CANCEL, False, Stopped()),
        (CRASH, 1 << 8, 3, None, False, Failed(EndReason.OOM_HOST, "no memory", 1)),
        (CRASH, 1 << 8, 3, Asked.DRAIN, False, Failed(EndReason.OOM_HOST, "no memory", 1)),
        (STOP, 0, 3, Asked.DRAIN, False, Drained()),
        (STOP, 0, 3, None, False, Lost("its trainer was stopped from outside", None)),
        (None, 9, 3, Asked.DRAIN, False, Drained()),
        (None, 9, 3, None, False, Lost("its trainer was killed", 9)),
        (
            None,
            137 << 8,
            3,
            None,
            False,
            Failed(EndReason.ERROR, "the trainer ended with exit code 137; see the log", 137),
        ),
        (None, 0, 10, None, False, Failed(EndReason.ERROR, "the trainer ended with exit code 0; see the log", 0)),
        (None, 11, 3, None, False, Failed(EndReason.ERROR, "the trainer died of SIGSEGV", None, 11)),
        (None, 41, 3, None, False, Failed(EndReason.ERROR, "the trainer died of signal 41", None, 41)),
    ],
)
def test_an_attempt_succeeds_only_with_all_its_steps_and_a_clean_exit(
    outcome: Outcome | None, wait_status: int, steps: int, asked: Asked | None, for_memory: bool, ending: Ending
) -> None:
    assert endings.judge(outcome, wait_status, steps, 10, asked, for_memory) == ending


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"status": "failed"}',
        '{"status": "failed", "code": "fatigue", "message": "", "steps": 1}',
        '{"status": "failed", "code": "error", "message": ["a list"], "steps": 1}',
        '{"status": "stopped_early", "code": null, "message": "", "steps": null}',
    ],
)
def test_only_what_a_trainer_writes_is_an_outcome(content: str, tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    assert endings.read_outcome(path) is None
    path.write_text(CRASH.to_json())
    assert endings.read_outcome(path) == CRASH
    path.write_text(content)
    with pytest.raises(ValueError, match="Outcome"):
        endings.read_outcome(path)


def test_a_trainer_that_the_kernel_killed_for_memory_is_not_started_again() -> None:
    ending = endings.judge(None, signal.SIGKILL, 3, 10, None, killed_for_memory=True)
    assert isinstance(ending, Failed)
    assert (ending.reason, ending.signal) == (EndReason.OOM_HOST, 9)

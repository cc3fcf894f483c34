"""Whatever is killed and when: nothing that was acknowledged is lost, and every curve is whole.

`make test` runs the short forms, `make chaos` those with many rounds. The dice are seeded; the processes are not.
"""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aftermath
import httpx
import numpy as np
import psutil
import pytest
from conftest import Until
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import home, schema
from service.database import Database, sqlite_module
from service.settings import Settings
from service.states import TERMINAL, JobStatus
from service.tables import Attempt, Job, JobEvent, Point, Series

TRAINBOX = [sys.executable, "-m", "service.cli"]
OF_SERVICE = {
    "TRAINBOX_SLOTS": "2",
    "TRAINBOX_LEASE_SECONDS": "1.5",
    "TRAINBOX_BACKOFF_SECONDS": "0.1",
    "TRAINBOX_STOP_SECONDS": "10",
}
PARTS = ("worker", "trainer", "forkserver", "api")
EVERYTHING = "everything"
PATIENCE_SECONDS = 120
POSTERS = 4

Spec = dict[str, Any]
Processes = list[psutil.Process]


def spec(task: str, dataset: str, steps: int, every_steps: int | None = None, **hyperparameters: Any) -> Spec:
    """every_steps: between checkpoints; without it, the job is over before the first one."""
    return {
        "task": task,
        "dataset": dataset,
        "model": {"type": "mlp", "hidden_sizes": [16], "dropout": 0.1},
        "hyperparameters": {"max_steps": steps, "batch_size": 16, **hyperparameters},
        "checkpoints": {"every_steps": every_steps},
        "limits": {"max_attempts": 100},
    }


SPECS = (
    spec("classification", "iris", 700),
    spec("classification", "digits", 500, every_steps=40, lr_schedule="cosine", max_grad_norm=1.0),
    spec("regression", "diabetes", 900, every_steps=7, optimizer="sgd", seed=5),
)


class Service:
    """`trainbox serve` on a home, always at the same port, started as often as it takes."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.settings = Settings(home=folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRAINBOX_")}
        self.environment = (
            inherited | OF_SERVICE | {"TRAINBOX_HOME": str(folder), "TRAINBOX_PORT": self.port} | settings
        )
        self.log = folder.parent / f"{folder.name}.log"
        self.seen: dict[int, psutil.Process] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, command: str = "serve") -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*TRAINBOX, command], env=self.environment, stdout=log, stderr=log)

    def stop(self) -> int:
        assert self.process is not None
        self.processes()
        self.process.terminate()
        return self.process.wait(30)

    def client(self) -> httpx.Client:
        token = self.settings.token_path.read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=30)

    def processes(self) -> Processes:
        """All that belong to the service now."""
        assert self.process is not None
        with suppress(psutil.NoSuchProcess):
            serve = psutil.Process(self.process.pid)
            found = [serve, *serve.children(recursive=True)]
            self.seen |= {process.pid: process for process in found}
            return found
        return []

    def find(self, part: str) -> Processes:
        return [process for process in self.processes() if self._part(process) == part]

    def _part(self, process: psutil.Process) -> str:
        try:
            command, folder = process.cmdline(), process.cwd()
        except psutil.Error:
            return ""
        if Path(folder).is_relative_to(self.settings.jobs_path):
            return "trainer"
        if "workers.forkserver" in command:
            return "forkserver"
        return "worker" if {"worker", "workers"} & set(command) else "api" if "api" in command else "serve"

    def kill(self, processes: Processes) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def kill_everything(self, chance: random.Random) -> None:
        found = self.processes()
        chance.shuffle(found)
        self.kill(found)
        assert self.process is not None
        self.process.wait(10)

    def left_over(self) -> Processes:
        """Processes of the service that live on, at the latest ten seconds after its end."""
        _, alive = psutil.wait_procs([each for each in self.seen.values() if is_alive(each)], timeout=10)
        return [*filter(is_alive, alive), *(each for each in psutil.process_iter() if self._part(each) == "trainer")]


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(home=tmp_path_factory.mktemp("prepared") / "home")
    home.prepare(settings)
    return settings


@pytest.fixture
def make_service(prepared: Settings, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """A service on a home of its own that has its data sets; nothing of it is left when the test ends."""
    made: list[Service] = []

    def make(**settings: str) -> Service:
        folder = tmp_path / "home"
        subprocess.run(["cp", "-a", str(prepared.home), str(folder)], check=True, timeout=60)
        made.append(Service(folder, **settings))
        return made[-1]

    yield make
    for service in made:
        if service.process is not None and service.process.poll() is None:
            service.kill(service.processes())
            service.process.wait(10)
        else:
            aftermath.check_stopped(service.settings, logs=[service.log])


def answered(request: Callable[[], httpx.Response]) -> httpx.Response:
    """The first answer of a service that may be away for a while; what it may say is 2xx, or 503."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert time.monotonic() < end, "nobody answered in time"
        with suppress(httpx.TransportError):
            answer = request()
            if answer.is_success:
                return answer
            assert answer.status_code == 503, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
        time.sleep(0.02)


class Customer(threading.Thread):
    """Submits jobs as long as few are waiting, and insists: a request without an answer is sent again."""

    def __init__(self, client: httpx.Client) -> None:
        super().__init__()
        self.client = client
        self.acknowledged: dict[str, int] = {}
        self.enough = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.enough.wait(0.05):
                waiting = answered(lambda: self.client.get("/v1/jobs?status=queued&limit=200")).json()["data"]
                if len(waiting) < 3:
                    self._submit(len(self.acknowledged))
        except BaseException as error:
            self.error = error

    def _submit(self, number: int) -> None:
        chosen = number % len(SPECS)
        key = {"Idempotency-Key": f"job-{number}"}
        answer = answered(lambda: self.client.post("/v1/jobs", json=SPECS[chosen], headers=key))
        self.acknowledged[answer.json()["id"]] = chosen

    def done(self) -> dict[str, int]:
        """The id of each acknowledged job, and which spec it has."""
        self.enough.set()
        self.join(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error
        assert not self.is_alive()
        return self.acknowledged


@pytest.mark.parametrize(
    ("seed", "rounds"),
    [pytest.param(seed, 20, marks=pytest.mark.chaos) for seed in (2, 3)],  # in short: see test_chaos
)
@pytest.mark.timeout(1200)
def test_every_acknowledged_job_succeeds_with_a_whole_curve_whatever_is_killed(
    make_service: Callable[..., Service], until: Until, seed: int, rounds: int
) -> None:
    chance = random.Random(seed)
    service = make_service()
    service.start()
    with service.client() as client:
        until(lambda: service.find("trainer") or is_ready(client))
        customer = Customer(client)
        customer.start()
        for victim in victims(chance, rounds):
            if chance.random() < 0.7:  # otherwise it may hit a service that is still getting up
                until(lambda: service.find("trainer"))
            customer.enough.wait(chance.uniform(0.1, 1.5))  # a moment of the dice's choice
            if victim == EVERYTHING:
                service.kill_everything(chance)
                service.start()
            else:
                until(lambda victim=victim: service.find(victim))  # type: ignore[misc]
                service.kill(service.find(victim)[:1])
        acknowledged = customer.done()
        curves = {job_id: curve(client, job_id) for job_id in acknowledged}
    assert service.stop() == 0
    assert not service.left_over()
    attempts = check(service, acknowledged, curves)
    assert max(attempts) > 1, "nothing was hit"
    assert min(attempts) == 1, "nothing to compare with"


def is_ready(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/readyz").is_success
    return False


def victims(chance: random.Random, rounds: int) -> list[str]:
    """Each part, and all at once, equally often."""
    each = [*PARTS, EVERYTHING]
    chosen = each * (rounds // len(each))
    chance.shuffle(chosen)
    return chosen


def curve(client: httpx.Client, job_id: str) -> list[float]:
    """The values of a job's curve as the service answers them, when the job is over."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (job := answered(lambda: client.get(f"/v1/jobs/{job_id}?wait=5")).json())["status"] in ("queued", "running"):
        assert time.monotonic() < end, f"{job_id} did not end: {job['status_reason']}"
    assert job["status"] == "succeeded", job["error"]
    points = answered(lambda: client.get(f"/v1/runs/{job_id}/curves?metric=train_loss&points=10000")).json()["points"]
    assert points["step"] == list(range(1, job["plan"]["total_steps"] + 1))
    values: list[float] = points["y"]
    return values


def check(service: Service, acknowledged: dict[str, int], curves: dict[str, list[float]]) -> list[int]:
    """What must hold of a home after anything. Returns how many attempts each job has had."""
    settings = service.settings
    assert is_whole(settings.database_path)
    values: dict[tuple[int, str], set[bytes]] = defaultdict(set)
    with opened(settings) as database, database.read() as session:
        jobs = session.scalars(select(Job)).all()
        assert sorted(job.id for job in jobs) == sorted(acknowledged), "each once, and no other"
        for job in jobs:
            chosen = acknowledged[job.id]
            assert job.status is JobStatus.SUCCEEDED
            assert SPECS[chosen]["hyperparameters"].items() <= job.spec["hyperparameters"].items()
            attempts = select(Attempt).where(Attempt.job == job.seq).order_by(Attempt.number)
            check_attempts(session.scalars(attempts).all())
            found = {series.name: points(session, series) for series in all_series(session, job)}
            assert found["train_loss"][0] == list(range(1, job.plan["total_steps"] + 1))
            assert found["train_loss"][1] == curves[job.id]
            for name in [name for name in found if name != "samples_per_second" and not name.startswith("system/")]:
                values[chosen, name].add(np.array(found[name][1]).tobytes())
    assert {key for key, different in values.items() if len(different) > 1} == set(), "same spec and seed, same bits"
    return [job.attempt for job in jobs]


def all_series(session: Session, job: Job) -> Sequence[Series]:
    return session.scalars(select(Series).where(Series.run == job.seq)).all()


def points(session: Session, series: Series) -> tuple[list[int], list[float | None]]:
    """Steps and values in the order of the table, which has each position and each step once."""
    query = select(Point).where(Point.series == series.id).order_by(Point.position)
    found = session.scalars(query).all()
    steps = [point.step for point in found]
    assert [point.position for point in found] == list(range(series.count))
    assert steps == sorted(set(steps))
    return steps, [point.value for point in found]


def check_attempts(attempts: Sequence[Attempt], ended: str = "succeeded") -> None:
    """One after the other, and only the last one ended of itself."""
    assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
    assert {attempt.ended for attempt in attempts[:-1]} <= {"worker_lost", "drained"}
    assert attempts[-1].ended == ended
    for before, after in itertools.pairwise(attempts):
        assert before.finished_at is not None
        assert before.finished_at <= after.started_at


def is_whole(path: Path) -> bool:
    connection = sqlite_module().connect(str(path))
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])
    finally:
        connection.close()


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rounds", [99])  # a job has a hundred attempts at most
def test_a_job_whose_whole_service_is_killed_at_random_times_has_no_hole_and_no_double(
    make_service: Callable[..., Service], until: Until, rounds: int
) -> None:
    """In short, with one round: the first job of the test below."""
    chance = random.Random(19)
    service = make_service()
    endless = spec("classification", "iris", 100_000_000, every_steps=10, seed=3)
    service.start()
    with service.client() as client:
        until(lambda: is_ready(client))
        jobs = [client.post("/v1/jobs", json=endless).json()["id"] for _ in range(2)]
        for _ in range(rounds):
            until(lambda: service.find("trainer"))
            time.sleep(chance.uniform(0.0, 1.0))  # a moment of the dice's choice
            service.kill_everything(chance)
            service.start()
        until(lambda: is_ready(client))
        for path in (f"/v1/jobs/{job_id}" for job_id in jobs):
            until(lambda path=path: client.get(path).json()["progress"]["step"] > 10 * rounds)  # type: ignore[misc]
            client.post(f"{path}/cancel").raise_for_status()
            assert client.get(f"{path}?wait=30").json()["status"] == "cancelled"
    assert service.stop() == 0
    assert not service.left_over()
    losses, hits = [], []
    with opened(service.settings) as database, database.read() as session:
        for job in session.scalars(select(Job)):
            attempts = session.scalars(select(Attempt).where(Attempt.job == job.seq).order_by(Attempt.number)).all()
            check_attempts(attempts, "cancelled")
            hits.append(len(attempts) - 1)
            found = {series.name: points(session, series) for series in all_series(session, job)}
            assert found["train_loss"][0] == list(range(1, job.step + 1))
            losses.append(found["train_loss"][1])
    assert sum(hits) >= rounds
    both = min(map(len, losses))
    assert losses[0][:both] == losses[1][:both], "hit at other steps, and yet the same"


def test_after_everything_was_killed_the_queue_goes_on_where_it_was(
    make_service: Callable[..., Service], until: Until
) -> None:
    service = make_service(TRAINBOX_SLOTS="1")
    service.start()
    specs = [spec("classification", "iris", 2000, every_steps=10), *(spec("classification", "iris", 20),) * 3]
    with service.client() as client:
        until(lambda: is_ready(client))
        ids = [client.post("/v1/jobs", json=each).json()["id"] for each in specs]
        until(lambda: (client.get(f"/v1/jobs/{ids[0]}").json()["progress"] or {"step": 0})["step"] > 20)
        service.kill_everything(random.Random(9))
        service.start()
        for job_id in ids:
            curve(client, job_id)
        jobs = [client.get(f"/v1/jobs/{job_id}").json() for job_id in ids]
        resumed = [each for each in client.get(f"/v1/jobs/{ids[0]}/events").json()["data"] if each["code"] == "resumed"]
    assert [job["attempt"] for job in jobs] == [2, 1, 1, 1]
    assert [each["data"]["step"] % 10 for each in resumed] == [0], "it went on after a checkpoint"
    assert service.stop() == 0
    assert not service.left_over()
    database = Database(service.settings.database_path)
    with database.read() as session:
        started = select(Job.id).join(JobEvent, JobEvent.job == Job.seq).where(JobEvent.code == "started")
        assert session.scalars(started.order_by(JobEvent.id)).all() == [ids[0], *ids]
    database.close()


@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.chaos)])
@pytest.mark.timeout(600)
def test_no_job_is_lost_or_doubled_when_the_api_is_killed_right_after_it_said_201(
    make_service: Callable[..., Service], until: Until, rounds: int
) -> None:
    service = make_service()
    sent = [(number, f"round-{number}-{poster}") for number in range(rounds) for poster in range(POSTERS)]
    known: dict[str, str] = {}
    for number in range(rounds):
        service.start("api")
        with service.client() as client, ThreadPoolExecutor(POSTERS) as pool:
            until(lambda: is_alive_at(client))
            keys = [key for of, key in sent if of == number]
            said = threading.Event()
            posts = [pool.submit(post, client, key, said) for key in keys]
            assert said.wait(20)
            assert service.process is not None
            service.process.kill()
            service.process.wait(10)
            known |= {
                key: job_id for key, job_id in zip(keys, (each.result() for each in posts), strict=True) if job_id
            }
    assert len(known) >= rounds
    service.start("api")
    with service.client() as client:
        until(lambda: is_alive_at(client))
        for _, key in sent:
            answer = client.post("/v1/jobs", json=named(key), headers={"Idempotency-Key": key})
            assert answer.status_code == 200 if key in known else answer.status_code in (200, 201)
            assert answer.json()["id"] == known.setdefault(key, answer.json()["id"])
        listed = client.get("/v1/jobs?limit=200").json()["data"]
    assert service.stop() == 0
    assert sorted(job["name"] for job in listed) == sorted(key for _, key in sent)
    assert all((job["status"], job["spec"]["hyperparameters"]["max_steps"]) == ("queued", 700) for job in listed)
    assert is_whole(service.settings.database_path)


def is_alive_at(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/healthz").is_success
    return False


def named(key: str) -> Spec:
    return SPECS[0] | {"name": key}


def post(client: httpx.Client, key: str, said: threading.Event) -> str | None:
    """The id of the new job; None when the service died before it answered."""
    try:
        answer = client.post("/v1/jobs", json=named(key), headers={"Idempotency-Key": key})
    except httpx.TransportError:
        return None
    assert answer.status_code == 201
    said.set()
    return str(answer.json()["id"])


def test_of_two_services_started_at_once_on_one_home_one_names_the_other_and_goes(
    make_service: Callable[..., Service], until: Until
) -> None:
    service = make_service()
    command, environment = [*TRAINBOX, "serve", "--port", "0"], service.environment
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    until(lambda: any(process.poll() is not None for process in both))
    [gone] = [process for process in both if process.poll() is not None]
    [stays] = [process for process in both if process is not gone]
    assert gone.stderr is not None
    assert stays.stderr is not None
    assert gone.returncode == 1
    assert f"(pid {stays.pid})" in gone.stderr.read()
    until(lambda: psutil.Process(stays.pid).children())
    stays.send_signal(signal.SIGTERM)
    stays.stderr.read()
    assert stays.wait(30) == 0
    with opened(service.settings) as database:
        schema.require_current(database)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_a_worker_that_is_killed_while_it_recovers_fifty_jobs_ten_times_leaves_nothing_amiss(
    make_service: Callable[..., Service], until: Until
) -> None:
    """In short, by a process that does nothing but recover: see test_leases."""
    chance = random.Random(24)
    # Trainers that sleep: fifty at work would leave nothing of the machine for those who recover.
    service = make_service(
        TRAINBOX_SLOTS="50",
        TRAINBOX_STOP_SECONDS="1",
        TRAINBOX_BACKOFF_SECONDS="0",
        PYTHONPATH=str(Path(__file__).parent / "faulty"),
    )
    service.start()
    asleep = spec("classification", "iris", 100_000_000) | {"tags": {"fault": "sleep_in_a_step"}}
    with service.client() as client:
        until(lambda: is_ready(client))
        ids = [answered(lambda: client.post("/v1/jobs", json=asleep)).json()["id"] for _ in range(50)]

        def all_run(attempt: int) -> bool:
            """All jobs, in this attempt or a later one."""
            running = client.get("/v1/jobs?status=running&limit=200").json()["data"]
            return len([job for job in running if job["attempt"] >= attempt]) == 50

        for number in range(1, 11):
            until(lambda: is_ready(client))
            until(lambda number=number: all_run(number))  # type: ignore[misc]
            locks = {*service.settings.run_path.glob("worker-*.lock")}
            until(lambda: service.find("worker"))
            lost = [service.find(part) for part in ("worker", "forkserver", "trainer")]
            service.kill([each for found in lost for each in found])
            # `serve` starts another, which recovers first, as soon as it has its lock.
            until(lambda locks=locks: {*service.settings.run_path.glob("worker-*.lock")} - locks)  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 0.3))  # a moment of the dice's choice
            service.kill(service.find("worker"))
        until(lambda: is_ready(client))
        until(lambda: all_run(11))
        for job_id in ids:
            client.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
        until(lambda: len(client.get("/v1/jobs?status=cancelled&limit=200").json()["data"]) == 50)
    assert service.stop() == 0
    assert not service.left_over()
    aftermath.check_stopped(service.settings, ids, [service.log])
    with opened(service.settings) as database, database.read() as session:
        for job in session.scalars(select(Job)):
            attempts = session.scalars(select(Attempt).where(Attempt.job == job.seq).order_by(Attempt.number)).all()
            check_attempts(attempts, "cancelled")
            assert len(attempts) > 10


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_search_that_is_killed_three_times_has_exactly_its_trials(make_service: Callable[..., Service]) -> None:
    """The short form, without kills, is in test_study_reports: three threads that take the study's steps at once."""
    service, chance = make_service(), random.Random(11)
    service.start()
    space = {"hyperparameters.learning_rate": {"low": 1e-4, "high": 1.0, "log": True}}
    asked = {"kind": "search", "base": spec("classification", "digits", 150), "space": space, "trials": 30}
    with service.client() as client:
        headers = {"Idempotency-Key": "search"}
        study = answered(lambda: client.post("/v1/studies", json=asked, headers=headers)).json()

        def finished() -> int:
            seen = answered(lambda: client.get(f"/v1/studies/{study['id']}")).json()
            return int(seen["progress"]["finished"])

        for kill_after in (4, 12, 20):
            while finished() < kill_after:
                time.sleep(0.02)
            service.kill_everything(chance)
            service.start()
        ended = study
        while JobStatus(ended["status"]) not in TERMINAL:
            ended = answered(lambda: client.get(f"/v1/studies/{study['id']}?wait=10")).json()
    assert ended["status"] == "succeeded"
    assert [row["trial"] for row in ended["report"]["history"]] == list(range(30))
    assert {row["state"] for row in ended["report"]["history"]} == {"complete"}
    assert len({row["parameters"]["hyperparameters.learning_rate"] for row in ended["report"]["history"]}) == 30
    database = Database(service.settings.database_path)
    with database.read() as session:
        places = session.scalars(select(Job.study_place).order_by(Job.study_place)).all()
    database.close()
    assert places == list(range(30))


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_path)
    yield database
    database.close()

"""Who is next: priority, then the user who had least, then the order of submission; and what is told of it."""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from boxes import dawdling, digits, finish, submit, train
from conftest import Box, Until
from sqlalchemy import select, update

from service import clock, crew, datasets, explain, forecast, intake, leases, locks, queue, usage, users
from service.database import Database
from service.forecast import Running, Task
from service.leases import Lease, Terms
from service.order import RESERVE_SECONDS, Room, Waiting, pick
from service.queue import QueueLimits
from service.settings import Settings
from service.states import Scope
from service.tables import Job
from service.users import Principal

ONE, TWO = Room(1, 0), Room(2, 0)
TERMS = Terms(30.0, 10.0)
SHORT = {"max_steps": 2, "epochs": None}

Put = Callable[..., int]


def waiting(
    seq: int, user: str = "ada", priority: int = 0, threads: int = 1, waited: float = 0.0, memory: int = 0
) -> Waiting:
    return Waiting(seq, user, priority, threads, 0, waited, memory)


def test_a_higher_priority_goes_before_everything() -> None:
    heads = [waiting(1, "ada"), waiting(2, "bob", priority=1)]
    assert pick(heads, {"bob": 1e9}, TWO, TWO) == heads[1]


def test_among_equals_the_user_who_had_least_is_next() -> None:
    heads = [waiting(1, "ada"), waiting(2, "bob")]
    assert pick(heads, {"ada": 10.0, "bob": 9.0}, TWO, TWO) == heads[1]
    assert pick(heads, {}, TWO, TWO) == heads[0]


def test_a_smaller_job_goes_first_while_a_large_one_does_not_fit() -> None:
    heads = [waiting(1, "ada", threads=2), waiting(2, "bob")]
    assert pick(heads, {}, Room(1, 0), TWO) == heads[1]


def test_slots_are_kept_for_a_large_job_that_has_waited_long() -> None:
    heads = [waiting(1, "ada", threads=2, waited=RESERVE_SECONDS + 1), waiting(2, "bob")]
    assert pick(heads, {}, Room(1, 0), TWO) is None
    assert pick(heads, {}, TWO, TWO) == heads[0]


def test_nothing_is_kept_for_a_job_that_can_never_fit() -> None:
    heads = [waiting(1, "ada", threads=9, waited=RESERVE_SECONDS + 1), waiting(2, "bob")]
    assert pick(heads, {}, Room(1, 0), TWO) == heads[1]


def test_what_was_used_counts_half_after_an_hour() -> None:
    assert usage.decayed(8.0, 1000.0, 1000.0 + usage.HALF_LIFE_SECONDS) == pytest.approx(4.0)
    assert usage.decayed(8.0, 1000.0, 500.0) == 8.0


@pytest.fixture
def put(database: Database, settings: Settings) -> Put:
    """Queues a job of a user; its seq."""
    datasets.furnish(database, settings.datasets_path)

    def submit_one(user: str, **fields: Any) -> int:
        with database.write() as session:
            if not users.is_user(session, user):
                users.create(session, user)
            principal = Principal(user, Scope.SUBMIT, "none")
            draft = intake.draft(session, principal, digits(**SHORT) | fields)
            job_id = queue.submit(session, principal, draft, QueueLimits(10_000, 10_000))
            return session.scalars(select(Job.seq).where(Job.id == job_id)).one()

    return submit_one


@pytest.fixture
def start(database: Database) -> Callable[..., Lease | None]:
    """Claims the next job as a worker with two slots would."""

    def claim(free: Room = TWO, terms: Terms = TERMS) -> Lease | None:
        with database.write() as session:
            found = leases.claim(session, "worker-00000001", free, TWO, terms)
            return None if found is None else found.lease

    return claim


def test_nobody_has_more_running_jobs_than_allowed(put: Put, start: Callable[..., Lease | None]) -> None:
    first, _, others = put("ada"), put("ada"), put("bob")
    terms = Terms(30.0, 10.0, most_running=1)
    assert [lease.seq for lease in (start(terms=terms), start(terms=terms)) if lease] == [first, others]
    assert start(terms=terms) is None


def test_what_becomes_free_is_kept_for_a_large_job_that_has_waited_long(
    database: Database, put: Put, start: Callable[..., Lease | None]
) -> None:
    large = put("ada", resources={"threads": 2})
    small = [put("bob") for _ in range(3)]
    assert [lease.seq for lease in (start(free=ONE), start(free=ONE)) if lease] == small[:2], "it has just come"
    with database.write() as session:
        long_ago = clock.rfc3339(datetime.now(UTC) - timedelta(seconds=RESERVE_SECONDS + 5))
        session.execute(update(Job).where(Job.seq == large).values(reason_since=long_ago))
    assert start(free=ONE) is None
    assert [lease.seq for lease in (start(free=TWO), start(free=ONE)) if lease] == [large, small[2]]


def test_memory_that_is_not_free_is_waited_for_and_others_go_on(put: Put, start: Callable[..., Lease | None]) -> None:
    first, second = (put("ada", resources={"memory_mib": 2000}) for _ in range(2))
    modest = put("ada")
    free = replace(TWO, memory_mib=1999)
    assert [lease.seq for lease in (start(free=free), start(free=replace(TWO, memory_mib=2000))) if lease] == [
        modest,
        first,
    ]
    assert start(free=free) is None
    assert start(free=TWO) is not None
    held = [Running(waiting(0, memory=3000), worker=0, seconds=4.0)]
    tasks = [Task(waiting(second, memory=2000), seconds=1.0), Task(waiting(9), seconds=1.0)]
    assert forecast.starts([replace(TWO, memory_mib=4000)], held, tasks, {}, None) == {9: 0.0, second: 4.0}


def test_within_a_user_the_first_job_is_next(put: Put, start: Callable[..., Lease | None]) -> None:
    seqs = [put("ada") for _ in range(5)]
    assert [lease.seq for lease in (start() for _ in range(5)) if lease] == seqs


def test_a_job_without_a_gpu_is_told_how_many_threads_are_free_where_there_are_most(
    settings: Settings, database: Database, put: Put, start: Callable[..., Lease | None]
) -> None:
    gpu = {"index": 0, "foreign_processes": [], "out_of_service": False}
    rooms = {"worker-00000001": (4, []), "worker-00000002": (1, [gpu])}
    running, waits = put("ada"), put("ada", resources={"threads": 4})
    held = [locks.make(crew.worker_lock(settings.run_path, name)) for name in rooms]
    with database.write() as session:
        for name, (slots, devices) in rooms.items():
            crew.register(session, name, os.getpid(), slots, devices, TERMS, crew.Memory(8000, 8000))
    lease = start()
    assert lease is not None
    assert lease.seq == running
    with database.read() as session:
        job_id = session.scalars(select(Job.id).where(Job.seq == waits)).one()
        told = explain.view(session, Principal("ada", Scope.SUBMIT, "none"), job_id, settings.run_path, None)
    assert [cause["message"] for cause in told["blocked_by"]] == [
        "it needs 4 threads, and no worker has more than 3 threads free"
    ]
    for lock in held:
        os.close(lock)


def test_a_forecast_fills_the_slots_in_order() -> None:
    tasks = [Task(waiting(seq), seconds=10.0) for seq in range(1, 5)]
    held = [Running(waiting(0), worker=0, seconds=4.0)]
    assert forecast.starts([TWO], held, tasks, {}, None) == {1: 0.0, 2: 4.0, 3: 10.0, 4: 14.0}


def test_a_forecast_knows_dependencies_and_waits() -> None:
    tasks = [
        Task(waiting(1), seconds=5.0),
        Task(waiting(2), seconds=1.0, needs=frozenset({1})),
        Task(waiting(3), seconds=1.0, ready_in=2.0),
    ]
    assert forecast.starts([TWO], [], tasks, {}, None) == {1: 0.0, 3: 2.0, 2: 5.0}


def test_a_forecast_waits_for_running_jobs_and_for_ever_for_those_that_neither_run_nor_wait() -> None:
    held = [Running(waiting(1), worker=0, seconds=7.0)]
    tasks = [
        Task(waiting(2), seconds=1.0, needs=frozenset({1})),
        Task(waiting(3), seconds=1.0, needs=frozenset({99})),
    ]
    assert forecast.starts([TWO], held, tasks, {}, None) == {2: 7.0}


def test_a_forecast_leaves_out_what_never_starts() -> None:
    tasks = [Task(waiting(1, threads=9), seconds=1.0), Task(waiting(2), seconds=float("inf"))]
    assert forecast.starts([TWO], [], tasks, {}, None) == {2: 0.0}


@pytest.fixture
def blocker(admin: httpx.Client, until: Until) -> Iterator[dict[str, Any]]:
    job = submit(admin, digits(epochs=100_000) | {"resources": {"threads": 2}})
    until(lambda: admin.get(f"/v1/jobs/{job['id']}").json()["status"] == "running")
    yield job
    admin.post(f"/v1/jobs/{job['id']}/cancel")
    finish(admin, job)


@pytest.fixture(scope="module")
def measured(box: Box) -> None:
    """A job of the usual shape has run."""
    train(box.admin, digits(epochs=40))


@pytest.mark.usefixtures("measured")
def test_a_waiting_job_is_told_every_cause_and_its_place(admin: httpx.Client, blocker: dict[str, Any]) -> None:
    first = submit(admin, digits(**SHORT))
    second = submit(admin, digits(**SHORT) | {"depends_on": [first["id"]]})
    told = admin.get(f"/v1/jobs/{second['id']}/explain").json()
    assert told["position"] == 2
    assert [cause["code"] for cause in told["blocked_by"]] == ["dependency", "no_slot", "behind_others"]
    assert told["blocked_by"][1]["message"] == "it needs 1 thread, and no worker has any free"
    assert told["estimated_start_at"] > second["created_at"]
    assert "measured" in told["basis"]
    assert len(told["would_start_now_if"]) == 3
    for job in (first, second):
        admin.post(f"/v1/jobs/{job['id']}/cancel")


@pytest.mark.usefixtures("measured")
def test_a_dry_run_tells_when_the_job_would_start(admin: httpx.Client, blocker: dict[str, Any]) -> None:
    waits = planned(admin, digits(**SHORT))
    behind = planned(admin, digits(**SHORT) | {"depends_on": [blocker["id"]]})
    for moment in (waits, behind):
        assert seconds(moment) > time.time() + 10, "the running one has minutes to go"
    admin.post(f"/v1/jobs/{blocker['id']}/cancel")
    finish(admin, blocker)
    assert abs(seconds(planned(admin, digits(**SHORT))) - time.time()) < 5


def planned(client: httpx.Client, spec: dict[str, Any]) -> str:
    """When a job with this spec would start."""
    answer = client.post("/v1/jobs?dry_run=true", json=spec).raise_for_status()
    return str(answer.json()["plan"]["estimated_start_at"])


def test_nobody_foretells_when_a_paused_job_goes_on(admin: httpx.Client, blocker: dict[str, Any], until: Until) -> None:
    job = f"/v1/jobs/{blocker['id']}"
    behind = submit(admin, digits(**SHORT) | {"depends_on": [blocker["id"]]})
    admin.post(f"{job}/pause").raise_for_status()
    until(lambda: admin.get(job).json()["status"] == "paused")
    for each in (blocker, behind):
        told = admin.get(f"/v1/jobs/{each['id']}/explain").json()
        assert told["blocked_by"]
        assert told["estimated_start_at"] is None


def test_a_job_that_is_over_waits_for_nothing(admin: httpx.Client) -> None:
    job = train(admin, digits(**SHORT))
    told = admin.get(f"/v1/jobs/{job['id']}/explain").json()
    assert (told["position"], told["blocked_by"], told["basis"]) == (None, [], "the job is succeeded")


def test_predicted_starts_come_true(admin: httpx.Client, until: Until) -> None:
    """Of trainers that mostly sleep, whose pace other work on the machine hardly changes; no other job has their batch
    size, so nothing is known from before.
    """
    own = {"epochs": None, "batch_size": 24}
    specs = [dawdling(digits(max_steps=60 * (1 + number % 3), **own), "keep_pace") for number in range(24)]
    right = come_true(admin, until, specs, after_seconds=1.2, off=(2.0, 0.3))
    assert sum(right) >= 0.8 * len(right), f"{sum(right)} of {len(right)}"


@pytest.mark.chaos
@pytest.mark.usefixtures("measured")
def test_nine_of_ten_predicted_starts_come_true_on_a_machine_in_quiet(admin: httpx.Client, until: Until) -> None:
    """All that is known from before is one job that ran alone."""
    specs = [digits(epochs=100 * (1 + number % 3)) for number in range(40)]
    right = come_true(admin, until, specs, after_seconds=3.0, off=(5.0, 0.2))
    assert sum(right) >= 0.9 * len(right), f"{sum(right)} of {len(right)}"


def come_true(
    client: httpx.Client, until: Until, specs: list[dict[str, Any]], after_seconds: float, off: tuple[float, float]
) -> list[bool]:
    """Of each job that waited when the first ones had run for a moment, whether it started when it was foretold.

    off: seconds, or parts of the wait, that a prediction may be wrong by.
    """
    jobs = [submit(client, spec) for spec in specs]
    until(lambda: client.get(f"/v1/jobs/{jobs[1]['id']}").json()["started_at"])
    second = seconds(client.get(f"/v1/jobs/{jobs[1]['id']}").json()["started_at"])
    until(lambda: time.time() > second + after_seconds)
    asked_at = time.time()
    asked = {job["id"]: client.get(f"/v1/jobs/{job['id']}/explain").json() for job in jobs}
    waiting = {job_id: seconds(told["estimated_start_at"]) for job_id, told in asked.items() if told["position"]}
    started = {job["id"]: seconds(finish(client, job)["started_at"]) for job in jobs}
    assert len(waiting) > len(jobs) / 2
    return [
        abs(started[job_id] - predicted) <= max(off[0], off[1] * (started[job_id] - asked_at))
        for job_id, predicted in waiting.items()
    ]


def test_a_user_with_few_jobs_is_not_kept_waiting_by_one_with_many(box: Box, until: Until) -> None:
    """The worker goes on with its work while the few are submitted; how many start since then, the events tell."""
    with box.speaking_as("ada") as ada, box.speaking_as("bob") as bob:
        many = [submit(ada, digits(max_steps=1, epochs=None)) for _ in range(50)]
        few = [submit(bob, digits(max_steps=1, epochs=None)) for _ in range(3)]
        for job in few:
            finish(bob, job)
        started = {job["id"]: moment(ada, job, "started") for job in many} | {
            job["id"]: moment(bob, job, "started") for job in few
        }
        submitted, third = moment(bob, few[2], "submitted"), max(started[job["id"]] for job in few)
        assert sum(submitted < each <= third for each in started.values()) <= 6
        assert sum(each > third for each in started.values()) > 20, "ada's others still wait, or come after them"
        for job in many:
            ada.post(f"/v1/jobs/{job['id']}/cancel")


def moment(client: httpx.Client, job: dict[str, Any], code: str) -> float:
    """The place of an event among those of all jobs; infinite when it has not happened."""
    events = client.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    return next((each["id"] for each in events if each["code"] == code), math.inf)


def test_the_box_shows_what_each_user_has(admin: httpx.Client, blocker: dict[str, Any]) -> None:
    shares = {share["user"]: share for share in admin.get("/v1/box").json()["shares"]}
    assert shares["admin"]["running"] == 1
    assert shares["admin"]["recent_slot_seconds"] > 0


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()

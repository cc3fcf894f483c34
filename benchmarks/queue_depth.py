"""Claiming, listing and submitting with 10,000 jobs in the queue, against the same with next to none.

Run with `python -m benchmarks.queue_depth`; ends with 1 when a goal is clearly missed.
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from operator import truediv

from benchmarks import stage
from service import intake, leases, queue, users
from service.database import Database
from service.leases import Terms
from service.order import Room
from service.queue import QueueLimits
from service.states import Scope
from service.users import Principal

DEPTH, OWNERS, ROUNDS, TIMES = 10_000, 5, 5, 20
FEW = 50  # a page of the list: with fewer, the list would be shorter too
GOALS = {"claim": 0.005, "GET /v1/jobs": 0.020, "submit": 0.015}  # seconds, the median
RATIO = 2.0
CLEARLY = 0.7
WORKER, ROOM, TERMS = "worker-of-the-benchmark", Room(1, 0), Terms(60.0, 10.0)
SPEC = {"task": "classification", "dataset": "digits"}
UNLIMITED = QueueLimits(10 * DEPTH, 10 * DEPTH)
LIMITS = {"TRAINBOX_MAX_QUEUED_JOBS": str(10 * DEPTH), "TRAINBOX_MAX_QUEUED_JOBS_PER_USER": str(10 * DEPTH)}

Times = dict[str, list[float]]


def main() -> int:
    with ExitStack() as running:
        few, many = (Place(running, jobs) for jobs in (FEW, DEPTH))
        # By turns, so that what else the machine does hits both.
        for _ in range(ROUNDS):
            few.measure()
            many.measure()
        seen = [{name: statistics.median(times) for name, times in each.times.items()} for each in (few, many)]
    missed = False
    for name, goal in GOALS.items():
        short, long = (each[name] for each in seen)
        ratio = statistics.median(map(truediv, many.times[name], few.times[name]))
        print(
            f"{name:13} {1000 * short:7.2f} ms with few queued, {1000 * long:7.2f} ms with {DEPTH:,}  "
            f"goal {1000 * goal:g} ms;  ratio {ratio:5.2f}  goal {RATIO:g}"
        )
        missed |= CLEARLY * ratio > RATIO
    return int(missed)


class Place:
    """A home with so many jobs in its queue, and an API on it. times: medians of each act, in seconds, a round each."""

    def __init__(self, running: ExitStack, jobs: int) -> None:
        settings = running.enter_context(stage.furnished())
        self.database = Database(settings.database_path)
        running.callback(self.database.close)
        fill(self.database, jobs)
        self.service = running.enter_context(stage.running(settings, "api", **LIMITS))
        self.times: Times = {name: [] for name in GOALS}

    def measure(self) -> None:
        self.service.connection.close()  # the service may have given it up meanwhile; the next request opens another
        held: list[leases.Lease] = []

        def claim() -> None:
            with self.database.write() as session:
                found = leases.claim(session, WORKER, ROOM, ROOM, TERMS)
                assert found is not None
            held.append(found.lease)

        self.times["submit"].append(seconds(lambda: self.service.post("/v1/jobs", SPEC)))
        self.times["GET /v1/jobs"].append(seconds(lambda: self.service.get("/v1/jobs")))
        self.times["claim"].append(seconds(claim))  # last, so that the queue is in the end as it was
        with self.database.write() as session:
            for lease in held:
                leases.succeed(session, lease)


def fill(database: Database, jobs: int) -> None:
    """Queues so many jobs, of several users by turns."""
    with database.write() as session:
        for number in range(OWNERS):
            if not users.is_user(session, f"user-{number}"):
                users.create(session, f"user-{number}")
        draft = intake.draft(session, Principal(users.FIRST_ADMIN, Scope.ADMIN, "benchmark"), SPEC)
        for number in range(jobs):
            owner = Principal(f"user-{number % OWNERS}", Scope.SUBMIT, "benchmark")
            queue.submit(session, owner, draft, UNLIMITED)


def seconds(act: Callable[[], object]) -> float:
    taken = []
    for _ in range(TIMES):
        begin = time.perf_counter()
        act()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main())

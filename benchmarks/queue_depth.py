"""Claiming, listing and submitting with 10,000 jobs in the queue, against the same with next to none.

Run with `python -m benchmarks.queue_depth`; ends with 1 when a goal is clearly missed.
"""

import statistics
import sys
import time
from collections.abc import Callable

from benchmarks import stage
from service import leases, queue, users
from service.database import Database
from service.leases import Terms
from service.order import Room
from service.queue import QueueLimits
from service.states import Scope
from service.users import Principal

DEPTH, OWNERS, TIMES = 10_000, 5, 100
GOALS = {"claim": 0.005, "GET /v1/jobs": 0.020, "submit": 0.015}  # seconds, the median
RATIO = 2.0
CLEARLY = 0.7
WORKER, ROOM, TERMS = "worker-of-the-benchmark", Room(1, 0), Terms(60.0, 10.0)
SPEC = {"task": "classification", "dataset": "digits"}
UNLIMITED = QueueLimits(10 * DEPTH, 10 * DEPTH)
LIMITS = {"TRAINBOX_MAX_QUEUED_JOBS": str(10 * DEPTH), "TRAINBOX_MAX_QUEUED_JOBS_PER_USER": str(10 * DEPTH)}

Times = dict[str, float]


def main() -> int:
    with stage.furnished() as settings:
        database = Database(settings.database_path)
        with stage.running(settings, "api", **LIMITS) as service:
            fill(database, 2 * TIMES)
            few = measured(database, service)
            fill(database, DEPTH)
            service.connection.close()  # the service has given it up meanwhile; the next request opens another
            many = measured(database, service)
        database.close()
    missed = False
    for name, goal in GOALS.items():
        ratio = many[name] / few[name]
        print(
            f"{name:13} {1000 * few[name]:7.2f} ms with few queued, {1000 * many[name]:7.2f} ms with {DEPTH:,}  "
            f"goal {1000 * goal:g} ms;  ratio {ratio:5.2f}  goal {RATIO:g}"
        )
        missed |= CLEARLY * ratio > RATIO
    return int(missed)


def fill(database: Database, jobs: int) -> None:
    """Queues so many jobs, of several users by turns."""
    with database.write() as session:
        for number in range(OWNERS):
            if not users.is_user(session, f"user-{number}"):
                users.create(session, f"user-{number}")
        draft = queue.draft(session, Principal(users.FIRST_ADMIN, Scope.ADMIN, "benchmark"), SPEC)
        for number in range(jobs):
            owner = Principal(f"user-{number % OWNERS}", Scope.SUBMIT, "benchmark")
            queue.submit(session, owner, draft, UNLIMITED)


def measured(database: Database, service: stage.Service) -> Times:
    """The median seconds of each act."""

    def claim() -> None:
        with database.write() as session:
            found = leases.claim(session, WORKER, ROOM, ROOM, TERMS)
            assert found is not None
        held.append(found.lease)

    held: list[leases.Lease] = []
    times = {
        "claim": seconds(claim),
        "GET /v1/jobs": seconds(lambda: service.get("/v1/jobs")),
        "submit": seconds(lambda: service.post("/v1/jobs", SPEC)),
    }
    with database.write() as session:
        for lease in held:
            leases.succeed(session, lease)
    return times


def seconds(act: Callable[[], object]) -> float:
    taken = []
    for _ in range(TIMES):
        begin = time.perf_counter()
        act()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main())

"""Long curves over HTTP, read and compared, against scanning their rows, and against a request for nothing.

The requests take turns, so that what else the machine does meets all of them. Run with `python -m
benchmarks.http_curves`; ends with 1 when a goal is clearly missed or a point that must be seen is not in an answer.
"""

import json
import statistics
import sys
from collections.abc import Callable

import numpy as np
from sqlalchemy import select

from benchmarks import stage
from benchmarks.curves import seconds
from benchmarks.stage import Service
from service import curves, intake, queue, users
from service.curves import Batch
from service.database import Database
from service.queue import QueueLimits
from service.settings import Settings
from service.states import JobStatus, Scope
from service.tables import Job, Run, Series
from service.users import Principal

LONG, SHORT, COMPARED = 1_000_000, 100_000, 10
REPEATS = 100
SCANS = 3
EMPTY = "/healthz"
SCAN = "SELECT step, value, time FROM points WHERE series = ?"  # what an answer is made of
# At least so many times as fast as a scan.
GOALS = {"reading": 200.0, "comparing": 25.0}
# At most, of the quickest tenth of the answers: milliseconds beyond the request for nothing, milliseconds in all, and
# how many times as long as the comparison of shorter curves.
BOUNDS = {"a curve beyond an empty request": 1.0, "a comparison": 5.0, "a comparison of longer curves": 1.5}
CLEARLY = 0.8
SPIKES = (123_456, 654_321)
NOT_NUMBERS = (10, 500_000, 999_998)
SPEC = {"task": "classification", "dataset": "digits"}


def main() -> int:
    with stage.furnished() as settings:
        ids = fill(settings, [LONG] + [SHORT] * COMPARED + [LONG] * COMPARED)
        short, long = ids[1 : 1 + COMPARED], ids[1 + COMPARED :]
        with stage.running(settings, "api") as service:
            path = f"/v1/runs/{ids[0]}/curves?metric=train_loss&points=1000"
            missing = unseen(json.loads(service.ask("GET", path)))
            empty, read, compared, compared_long = in_turns(service, [EMPTY, path, together(short), together(long)])
        scanned, all_scanned = scans(settings, ids[:1], short)
    for name, times in (
        ("a request for nothing", empty),
        (f"one curve of {LONG:,}", read),
        (f"{COMPARED} curves of {SHORT:,}", compared),
        (f"{COMPARED} curves of {LONG:,}", compared_long),
    ):
        print(f"{name:24} {1000 * statistics.median(times):8.2f} ms, the quickest tenth {1000 * quick(times):8.2f} ms")
    typical_read, typical_compared = statistics.median(read), statistics.median(compared)
    ratios = {"reading": scanned / typical_read, "comparing": all_scanned / typical_compared}
    for name, scan in (("reading", scanned), ("comparing", all_scanned)):
        print(f"{name:10} scan {1000 * scan:8.1f} ms, ratio {ratios[name]:8.1f}     goal {GOALS[name]:g}")
    taken = {
        "a curve beyond an empty request": 1000 * (quick(read) - quick(empty)),
        "a comparison": 1000 * quick(compared),
        "a comparison of longer curves": quick(compared_long) / quick(compared),
    }
    for name, amount in taken.items():
        print(f"{name:32} {amount:6.2f}     goal at most {BOUNDS[name]:g}")
    for what in missing:
        print(f"not in the answer: {what}")
    slow = any(ratios[name] < CLEARLY * GOALS[name] for name in GOALS)
    late = any(CLEARLY * taken[name] > BOUNDS[name] for name in BOUNDS)
    return int(bool(missing) or slow or late)


def together(ids: list[str]) -> str:
    return f"/v1/compare?runs={','.join(ids)}&metric=train_loss&points=1000"


def in_turns(service: Service, paths: list[str]) -> list[list[float]]:
    """Seconds of each answer, for each path. The first round, which warms up, does not count."""
    taken: list[list[float]] = [[] for _ in paths]
    for _ in range(REPEATS + 1):
        for times, path in zip(taken, paths, strict=True):
            times.append(seconds(service.ask, "GET", path))
    return [times[1:] for times in taken]


def quick(times: list[float]) -> float:
    """What nine of ten took longer than."""
    return statistics.quantiles(times, n=10)[0]


def fill(settings: Settings, counts: list[int]) -> list[str]:
    """Runs without a worker, each with one curve of so many points. Their ids."""
    database = Database(settings.database_path)
    principal = Principal(users.FIRST_ADMIN, Scope.ADMIN, "benchmark")
    ids = []
    for count in counts:
        with database.write() as session:
            draft = intake.draft(session, principal, SPEC)
            ids.append(queue.submit(session, principal, draft, QueueLimits(1000, 1000)))
            run = session.scalars(select(Run.seq).where(Run.id == ids[-1])).one()
            queue.move(session, run, JobStatus.CANCELLED, "cancelled", "a benchmark", cancel_requested_at="now")
        for position in range(0, count, 50_000):
            with database.write() as session:
                curves.append_all(session, run, [losses(position, min(50_000, count - position), count)])
    database.close()
    return ids


def losses(position: int, count: int, of: int) -> Batch:
    steps = np.arange(position + 1, position + count + 1)
    values = np.random.default_rng(position).normal(1 / np.sqrt(steps), 0.01)
    if of == LONG:
        for spike in SPIKES:
            values[steps == spike] = 50.0 + spike
        for step in NOT_NUMBERS:
            values[steps == step] = np.nan
    return Batch("train_loss", position, steps, values, steps / 1000)


def unseen(answer: dict[str, object]) -> list[str]:
    """What a reader would miss of the long curve."""
    points = answer["points"]
    assert isinstance(points, dict)
    nan = [step for step, y in zip(points["step"], points["y"], strict=True) if y == "NaN"]
    highest = [value for value in points["max"] if isinstance(value, float)]
    wanted = {
        "the full count": answer["count"] == LONG,
        "the first point": points["step"][0] == 1,
        "the last point": points["step"][-1] == LONG,
        "every NaN": nan == list(NOT_NUMBERS),
        "every spike": all(50.0 + spike in highest for spike in SPIKES),
        "no more points than asked for": len(points["x"]) <= 1000,
    }
    return [what for what, seen in wanted.items() if not seen]


def scans(settings: Settings, one: list[str], several: list[str]) -> tuple[float, float]:
    """Seconds to fetch all rows of one run, and of several, from the driver."""
    database = Database(settings.database_path)
    with database.read() as session:
        query = select(Run.id, Series.id).join(Job, Job.seq == Run.seq).join(Series, Series.run == Run.seq)
        series = {row[0]: row[1] for row in session.execute(query)}
        connection = session.connection().connection.driver_connection
        assert connection is not None

        def scan(which: list[str]) -> None:
            for run_id in which:
                connection.execute(SCAN, (series[run_id],)).fetchall()

        found = typical(lambda: scan(one), SCANS), typical(lambda: scan(several), SCANS)
    database.close()
    return found


def typical(action: Callable[[], object], repeats: int) -> float:
    action()
    return statistics.median(seconds(action) for _ in range(repeats))


if __name__ == "__main__":
    sys.exit(main())

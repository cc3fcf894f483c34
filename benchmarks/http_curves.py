"""Long curves over HTTP, read and compared, against scanning their rows in the same process.

Run with `python -m benchmarks.http_curves`; ends with 1 when a goal is clearly missed or a point that must be seen is
not in an answer.
"""

import json
import statistics
import sys
from collections.abc import Callable

import numpy as np
from sqlalchemy import select

from benchmarks import stage
from benchmarks.curves import seconds
from service import curves, queue, users
from service.curves import Batch
from service.database import Database
from service.queue import QueueLimits
from service.settings import Settings
from service.states import JobStatus, Scope
from service.tables import Job, Run, Series
from service.users import Principal

LONG, SHORT, COMPARED = 1_000_000, 100_000, 10
REPEATS = 50
SCANS = 3
SCAN = "SELECT step, value, time FROM points WHERE series = ?"  # what an answer is made of
GOALS = {"reading": 200.0, "comparing": 25.0}
CLEARLY = 0.8
SPIKES = (123_456, 654_321)
NOT_NUMBERS = (10, 500_000, 999_998)
SPEC = {"task": "classification", "dataset": "digits"}


def main() -> int:
    with stage.furnished() as settings:
        ids = fill(settings)
        with stage.running(settings, "api") as service:
            path = f"/v1/runs/{ids[0]}/curves?metric=train_loss&points=1000"
            missing = unseen(json.loads(service.ask("GET", path)))
            read = typical(lambda: service.ask("GET", path), REPEATS)
            together = f"/v1/compare?runs={','.join(ids[1:])}&metric=train_loss&points=1000"
            compared = typical(lambda: service.ask("GET", together), REPEATS)
        scanned, all_scanned = scans(settings, ids)
    ratios = {"reading": scanned / read, "comparing": all_scanned / compared}
    print(f"one curve of {LONG:,} at 1000 points   {1000 * read:8.2f} ms, scan {1000 * scanned:8.1f} ms")
    print(
        f"{COMPARED} curves of {SHORT:,} compared        {1000 * compared:8.2f} ms, scan {1000 * all_scanned:8.1f} ms"
    )
    for name, ratio in ratios.items():
        print(f"{name:10} ratio {ratio:8.1f}     goal {GOALS[name]:g}")
    for what in missing:
        print(f"not in the answer: {what}")
    return int(bool(missing) or any(ratios[name] < CLEARLY * GOALS[name] for name in GOALS))


def fill(settings: Settings) -> list[str]:
    """Runs without a worker: one long curve, and ten shorter ones. Their ids."""
    database = Database(settings.database_path)
    principal = Principal(users.FIRST_ADMIN, Scope.ADMIN, "benchmark")
    ids = []
    for count in [LONG] + [SHORT] * COMPARED:
        with database.write() as session:
            draft = queue.draft(session, principal, SPEC)
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


def scans(settings: Settings, ids: list[str]) -> tuple[float, float]:
    """Seconds to fetch all rows of the long curve, and of the shorter ones, from the driver."""
    database = Database(settings.database_path)
    with database.read() as session:
        query = select(Run.id, Series.id).join(Job, Job.seq == Run.seq).join(Series, Series.run == Run.seq)
        series = {row[0]: row[1] for row in session.execute(query)}
        connection = session.connection().connection.driver_connection
        assert connection is not None

        def scan(which: list[str]) -> None:
            for run_id in which:
                connection.execute(SCAN, (series[run_id],)).fetchall()

        found = typical(lambda: scan(ids[:1]), SCANS), typical(lambda: scan(ids[1:]), SCANS)
    database.close()
    return found


def typical(action: Callable[[], object], repeats: int) -> float:
    action()
    return statistics.median(seconds(action) for _ in range(repeats))


if __name__ == "__main__":
    sys.exit(main())

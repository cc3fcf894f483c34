"""Recording, reading and comparing curves, against the trackers that a team would set up instead.

Each tracker is installed into an environment of its own below `build/peers`, at the first run. Run with `python -m
benchmarks.peers`, or with the names of some; ends with 1 when a goal is clearly missed. The goals are about MLflow's
tracking server; how Trackio, TensorBoard and Aim do is told beside them.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from benchmarks import environments, mlflow_server, stage
from benchmarks.http_curves import typical
from benchmarks.planted import METRICS, Values, curve, kept
from benchmarks.stage import Service
from service import curves, intake, leases, outside, queue, users
from service.curves import Batch
from service.database import Database
from service.leases import Terms
from service.order import Room
from service.outside import NewRun
from service.queue import QueueLimits
from service.settings import Settings
from service.states import Scope
from service.tables import Run
from service.users import Principal
from workers import recorder, spool
from workers.recorder import Recording

LONG, SHORT, COMPARED, POINTS = 1_000_000, 100_000, 10, 1000
REPEATS = 100
TRAINERS = 8
STEPS = 20_000  # of a trainer that records
STEPS_A_WRITE = 1000
CALLS, POINTS_A_CALL = 10, 9_999  # over HTTP, at most 10,000 in one call
WORKER, ROOM, TERMS = "worker-of-the-benchmark", Room(1, 0), Terms(600.0, 10.0)
PRINCIPAL = Principal(users.FIRST_ADMIN, Scope.ADMIN, "benchmark")
SPEC = {"task": "classification", "dataset": "digits"}

VERSIONS = {"mlflow": "3.17.2", "trackio": "0.43.0", "tensorboard": "2.21.0", "aim": "3.29.1"}
LIBRARIES = ("trackio", "tensorboard", "aim")

GOALS = {"one trainer": 60.0, "eight trainers": 30.0, "over HTTP": 50.0, "reading": 1900.0, "comparing": 900.0}
CLEARLY = 0.8


@dataclass(frozen=True)
class Seen:
    """Points recorded a second, seconds of a read, and spikes kept. empty: seconds of a request for nothing."""

    one_trainer: float
    eight_trainers: float
    one_client: float
    eight_clients: float
    empty: float
    reading: float
    kept: int
    comparing: float
    reading_short: float


def main() -> int:
    wanted = sys.argv[1:] or list(VERSIONS)
    if unknown := set(wanted) - set(VERSIONS):
        sys.exit(f"not among {', '.join(VERSIONS)}: {', '.join(sorted(unknown))}")
    interpreters = {name: environments.installed(name, VERSIONS[name]) for name in wanted}
    mine = service()
    print(f"trainbox     {mine.one_trainer:11,.0f} points/s from a trainer, {mine.eight_trainers:,.0f} from {TRAINERS}")
    print(f"             {mine.one_client:11,.0f} points/s from a client, {mine.eight_clients:,.0f} from {TRAINERS}")
    print(f"             {1000 * mine.reading:11.2f} ms for {LONG:,} points, {mine.kept} of 20 spikes kept; ", end="")
    print(f"{1000 * mine.empty:.2f} ms for nothing")
    print(f"             {1000 * mine.comparing:11.2f} ms for {COMPARED} of {SHORT:,}")
    missed = "mlflow" in interpreters and against_mlflow(interpreters["mlflow"], mine)
    for name in LIBRARIES:
        if (interpreter := interpreters.get(name)) is not None:
            tell(name, library(name, interpreter), mine)
    return int(missed)


def against_mlflow(interpreter: Path | None, mine: Seen) -> bool:
    """Tells what MLflow takes; whether a goal is clearly missed, or cannot be judged."""
    if interpreter is None:
        return True
    theirs = mlflow_server.measured(interpreter, curve(LONG), curve(SHORT), COMPARED, POINTS, TRAINERS)
    print(f"mlflow       {theirs.one_client:11,.0f} points/s from a client, ", end="")
    print(f"{theirs.eight_clients:,.0f} from {TRAINERS}")
    print(f"             {1000 * theirs.reading:11.2f} ms for {LONG:,} points, {theirs.kept} of 20 spikes kept")
    print(f"             {1000 * theirs.comparing:11.2f} ms for {COMPARED} of {SHORT:,}")
    ratios = {
        "one trainer": mine.one_trainer / theirs.one_client,
        "eight trainers": mine.eight_trainers / theirs.eight_clients,
        "over HTTP": mine.one_client / theirs.one_client,
        "reading": theirs.reading / mine.reading,
        "comparing": theirs.comparing / mine.comparing,
    }
    for name, ratio in ratios.items():
        print(f"{name:14} ratio {ratio:8.1f}     goal {GOALS[name]:g}")
    return mine.kept < 20 or any(ratios[name] < CLEARLY * goal for name, goal in GOALS.items())


def tell(name: str, theirs: dict[str, Any], mine: Seen) -> None:
    record, read = mine.one_trainer / theirs["recorded"], theirs["reading"] / mine.reading_short
    print(f"{name:12} {theirs['recorded']:11,.0f} points/s from a trainer, ratio {record:.1f}")
    print(f"             {1000 * theirs['reading']:11.2f} ms for {SHORT:,} points, ratio {read:.1f}; ", end="")
    print(f"{theirs['kept']} of 20 spikes kept")


def service() -> Seen:
    """What this service takes. Trainers hand their points to a worker, clients send them."""
    with stage.furnished() as settings:
        database = Database(settings.database_path)
        one, eight = trained(settings, database, 1), trained(settings, database, TRAINERS)
        long, *short = (filled(database, count) for count in [LONG] + [SHORT] * COMPARED)
        database.close()
        with stage.running(settings, "api") as running:
            path = f"/v1/runs/{long}/curves?metric=train_loss&points={POINTS}"
            short_path = f"/v1/runs/{short[0]}/curves?metric=train_loss&points={POINTS}"
            compare = f"/v1/compare?runs={','.join(short)}&metric=train_loss&points={POINTS}"
            return Seen(
                one_trainer=one,
                eight_trainers=eight,
                empty=typical(lambda: running.ask("GET", "/healthz"), REPEATS),
                reading=typical(lambda: running.ask("GET", path), REPEATS),
                kept=kept(running.get(path)["points"]["max"]),
                comparing=typical(lambda: running.ask("GET", compare), REPEATS),
                reading_short=typical(lambda: running.ask("GET", short_path), REPEATS),
                one_client=stage.rate([sent(running)]),
                eight_clients=stage.rate([sent(running) for _ in range(TRAINERS)]),
            )


def trained(settings: Settings, database: Database, trainers: int) -> float:
    """Points a second from so many trainers' spools into the database, all written and recorded by one thread."""
    recordings = [claimed(settings, database) for _ in range(trainers)]
    writers = [spool.Writer(recording.path, METRICS) for recording in recordings]
    records = np.zeros((STEPS, len(METRICS)), spool.RECORD)
    records["series"] = np.arange(len(METRICS))
    records["step"] = np.arange(1, STEPS + 1)[:, np.newaxis]
    records["value"] = curve(STEPS)[:, np.newaxis]
    records["time"] = records["step"] / 1000
    begin = time.perf_counter()
    for writer in writers:
        for step in range(0, STEPS, STEPS_A_WRITE):
            writer.append(records[step : step + STEPS_A_WRITE])
    while sum(recorder.flush(database, recording, TERMS) for recording in recordings):
        pass
    taken = time.perf_counter() - begin
    for writer, recording in zip(writers, recordings, strict=True):
        writer.close()
        assert recording.steps == STEPS
        with database.write() as session:
            leases.succeed(session, recording.lease)
    return trainers * records.size / taken


def claimed(settings: Settings, database: Database) -> Recording:
    """The reading end of a new job's first attempt."""
    with database.write() as session:
        queue.submit(session, PRINCIPAL, intake.draft(session, PRINCIPAL, SPEC), QueueLimits(1000, 1000))
        claim = leases.claim(session, WORKER, ROOM, ROOM, TERMS)
        assert claim is not None
    folder = settings.home / claim.lease.job_id
    folder.mkdir()
    return Recording(claim.lease, folder / "points.spool", folder, folder / "resumed.json", keep=1)


def filled(database: Database, count: int) -> str:
    """The id of a run with a loss of so many points."""
    with database.write() as session:
        run_id = outside.begin(session, PRINCIPAL, NewRun(name=f"{count} points"))
        run = session.scalars(select(Run.seq).where(Run.id == run_id)).one()
    values, steps = curve(count), np.arange(1, count + 1)
    for begin in range(0, count, 50_000):
        part = slice(begin, begin + 50_000)
        with database.write() as session:
            curves.append_all(session, run, [Batch("train_loss", begin, steps[part], values[part], steps[part] / 1000)])
    return run_id


def sent(running: Service) -> stage.Calls:
    """The calls that send a new run's points over a connection of its own."""
    client = running.apart()
    run_id = client.post("/v1/runs", {"name": "sent"})["id"]
    per_call = POINTS_A_CALL // len(METRICS)
    bodies = [json.dumps({"points": points(curve(per_call), call * per_call)}).encode() for call in range(CALLS)]
    return stage.Calls(client, f"/v1/runs/{run_id}/points", bodies, POINTS_A_CALL)


def points(values: Values, after: int) -> list[dict[str, Any]]:
    at = "2026-11-23T12:00:00Z"
    return [
        {"metric": metric, "step": step, "value": value, "at": at}
        for step, value in enumerate(values.tolist(), start=after + 1)
        for metric in METRICS
    ]


def library(name: str, interpreter: Path) -> dict[str, Any]:
    """What `peer_libraries` says of one, run by that one's interpreter."""
    script = Path(__file__).with_name("peer_libraries.py")
    with tempfile.TemporaryDirectory(prefix="trainbox-bench-") as folder:
        Path(folder, "values.json").write_text(json.dumps(curve(SHORT).tolist()))
        command: Sequence[Any] = [interpreter, script, name, folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(Path(folder, "seen.json").read_text())
    return found | {"kept": kept(found["values"])}


if __name__ == "__main__":
    sys.exit(main())

"""MLflow's tracking server on SQLite, measured over the REST API that its client and its pages use."""

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from benchmarks import stage
from benchmarks.http_curves import typical
from benchmarks.planted import METRICS, Values, curve, kept
from benchmarks.stage import Service

REPEATS = 3
CALLS = 10
STEPS_A_CALL = 333  # of three metrics each: `log-batch` takes at most 1000 points
START_SECONDS = 180.0
INSERT = "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES ('train_loss', ?, ?, ?, ?, 0)"


@dataclass(frozen=True)
class Seen:
    """Points recorded a second, seconds of a read, and spikes kept."""

    one_client: float
    eight_clients: float
    reading: float
    kept: int
    comparing: float


def measured(interpreter: Path, long: Values, short: Values, compared: int, points: int, clients: int) -> Seen:
    """long and short: curves of shape (n,). Their rows are written past the server, which would take minutes."""
    with tempfile.TemporaryDirectory(prefix="trainbox-bench-") as folder, running(interpreter, Path(folder)) as server:
        one = stage.rate([logged(server)])
        eight = stage.rate([logged(server) for _ in range(clients)])
        beginner = server.apart()  # the server gives up a connection that is idle for some seconds
        runs = [begun(beginner) for _ in range(1 + compared)]
        fill(Path(folder, "mlflow.db"), runs[0], long)
        for run in runs[1:]:
            fill(Path(folder, "mlflow.db"), run, short)
        reader = server.apart()
        read, compare = interval(runs[:1], points), interval(runs[1:], points)
        return Seen(
            one_client=one,
            eight_clients=eight,
            reading=typical(lambda: reader.ask("GET", read), REPEATS),
            kept=kept(float(metric["value"]) for metric in reader.get(read)["metrics"]),
            comparing=typical(lambda: reader.ask("GET", compare), REPEATS),
        )


@contextmanager
def running(interpreter: Path, folder: Path) -> Iterator[Service]:
    """The server as `mlflow server` starts it, without the processes that run its own jobs."""
    port = stage.free_port()
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    places = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    command = [str(interpreter), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *places]
    with stage.process(command, folder / "bench.log", environment) as started:
        server = stage.answering(port, "", started, "/health", START_SECONDS)
        processes = server.processes()
        try:
            yield server
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
            psutil.wait_procs(processes, stage.STOP_SECONDS)


def begun(server: Service) -> str:
    """The id of a new run."""
    answer = server.post("/api/2.0/mlflow/runs/create", {"experiment_id": "0", "start_time": 1})
    return str(answer["run"]["info"]["run_id"])


def logged(server: Service) -> stage.Calls:
    """The calls that log a new run's points over a connection of its own."""
    client = server.apart()
    run = begun(client)
    bodies = [json.dumps({"run_id": run, "metrics": metrics(call * STEPS_A_CALL)}).encode() for call in range(CALLS)]
    return stage.Calls(client, "/api/2.0/mlflow/runs/log-batch", bodies, STEPS_A_CALL * len(METRICS))


def metrics(after: int) -> list[dict[str, Any]]:
    return [
        {"key": metric, "value": value, "timestamp": 1_795_000_000_000 + step, "step": step}
        for step, value in enumerate(curve(STEPS_A_CALL).tolist(), start=after + 1)
        for metric in METRICS
    ]


def fill(path: Path, run: str, values: Values) -> None:
    rows = ((value, 1_795_000_000_000 + step, run, step) for step, value in enumerate(values.tolist(), start=1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(INSERT, rows)


def interval(runs: list[str], points: int) -> str:
    """The path of the endpoint that its pages draw curves from."""
    query = [("run_ids", run) for run in runs] + [("metric_key", "train_loss"), ("max_results", str(points))]
    return f"/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?{urlencode(query)}"

"""Jobs as tests submit them, and a real worker to train them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

Spec = dict[str, Any]

WORKER = (sys.executable, "-m", "workers")
# On the path of a worker, it makes trainers misbehave as the tags of their jobs say.
FAULTY = Path(__file__).parent / "faulty"


@contextmanager
def worker(home: Path, program: Sequence[str] = WORKER, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process on the home, with the most careless umask; drained at the end."""
    environment = os.environ | {"TRAINBOX_HOME": str(home)} | settings
    process = subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL, umask=0)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def digits(**hyperparameters: Any) -> Spec:
    """A short classification job."""
    return {"task": "classification", "dataset": "digits", "hyperparameters": {"epochs": 2, **hyperparameters}}


def dawdling(spec: Spec, fault: str = "dawdle") -> Spec:
    """The same job, which is certainly not over before a test has done something to it."""
    return spec | {"tags": {"fault": fault}}


def submit(client: httpx.Client, spec: Spec, **headers: str) -> Spec:
    answer = client.post("/v1/jobs", json=spec, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    job: Spec = answer.json()
    return job


def finish(client: httpx.Client, job: Spec) -> Spec:
    """The job when it is over."""
    ended: Spec = client.get(f"/v1/jobs/{job['id']}", params={"wait": 60}, timeout=70).json()
    assert ended["status"] in ("succeeded", "failed", "cancelled"), ended["status"]
    return ended


def train(client: httpx.Client, spec: Spec) -> Spec:
    return finish(client, submit(client, spec))


def values(client: httpx.Client, job: Spec, metric: str = "train_loss", x: str = "step") -> Spec:
    """The columns of a whole curve."""
    answer = client.get(f"/v1/runs/{job['id']}/curves", params={"metric": metric, "points": 10_000, "x": x})
    assert answer.status_code == 200, answer.text
    points: Spec = answer.json()["points"]
    return points

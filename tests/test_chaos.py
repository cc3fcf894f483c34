"""Two workers with eight trainers, and every second one process of all is killed or stopped for a while.

The dice are seeded, the processes are not: what is the same each time is how every job must end, and its curve.
"""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import aftermath
import httpx
import psutil
import pytest
from conftest import Until
from test_survival import (
    TRAINBOX,
    Service,
    Spec,
    answered,
    curve,
    is_ready,
    make_service,
    prepared,
    spec,
)

__all__ = ["make_service", "prepared"]  # fixtures

SUCCEEDING = (
    spec("classification", "iris", 800, every_steps=90),
    spec("classification", "digits", 400, every_steps=40, lr_schedule="cosine", max_grad_norm=1.0),
    spec("regression", "diabetes", 1000, every_steps=150, optimizer="sgd", seed=5),
    spec("classification", "wine", 600, every_steps=None),
)
DIVERGING = spec("regression", "diabetes", 5000, optimizer="sgd", learning_rate=100.0)
ENDLESS = spec("classification", "iris", 100_000_000, every_steps=500)
SLOTS = {"TRAINBOX_SLOTS": "4", "TRAINBOX_LEASE_SECONDS": "2"}
STRIKE_SECONDS = 1.0
LONGEST_STOP = 8.0  # longer than the three leases after which another worker kills the one that is stopped
PATIENCE_SECONDS = 600.0
LOOK_SECONDS = 3.0

Expected = dict[str, Spec]


class Storm:
    """Strikes a process of the service each second, and lets those that it stopped go on again."""

    def __init__(self, service: Service, other: "Workers", seed: int) -> None:
        self._service, self._other, self._chance = service, other, random.Random(seed)
        self._stopped: dict[psutil.Process, float] = {}
        self.struck: list[str] = []

    def strike(self) -> None:
        self._release(time.monotonic())
        victims = [each for each in (*self._service.processes(), *self._other.processes()) if self._part(each)]
        victim = self._chance.choice(sorted(victims, key=lambda each: (self._part(each), each.pid)))
        part = self._part(victim)
        with suppress(psutil.NoSuchProcess):
            if self._chance.random() < 0.5:
                victim.kill()
                self.struck.append(f"killed {part}")
            elif victim not in self._stopped:
                victim.suspend()
                self._stopped[victim] = time.monotonic() + self._chance.uniform(0.5, LONGEST_STOP)
                self.struck.append(f"stopped {part}")

    def end(self) -> None:
        self._release(float("inf"))

    def _release(self, now: float) -> None:
        for process, due in list(self._stopped.items()):
            if due <= now:
                del self._stopped[process]
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def _part(self, process: psutil.Process) -> str:
        """`serve` itself is spared: a person would start it again."""
        found = self._service._part(process)
        return "" if found == "serve" else found


class Workers:
    """A second worker beside that of `serve`, started again whenever it has ended."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._process: subprocess.Popen[bytes] | None = None

    def tend(self) -> None:
        if self._process is None or self._process.poll() is not None:
            with self._service.log.open("ab") as log:
                command = [*TRAINBOX, "worker"]
                self._process = subprocess.Popen(command, env=self._service.environment, stdout=log, stderr=log)

    def processes(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        if self._process is not None and self._process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                own = psutil.Process(self._process.pid)
                found = [own, *own.children(recursive=True)]
                self._service.seen |= {process.pid: process for process in found}
        return found

    def stop(self) -> None:
        if self._process is not None:
            self.processes()
            with suppress(ProcessLookupError):
                self._process.terminate()
            self._process.wait(30)


@contextmanager
def patient(service: Service) -> Iterator[httpx.Client]:
    """A client that does not wait long for an API that may be stopped."""
    token = service.settings.token_path.read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", headers=headers, timeout=LOOK_SECONDS) as client:
        yield client


def submitted(client: httpx.Client, jobs: int) -> Expected:
    """The id and the spec of each: of ten jobs one diverges, and one has no end and is cancelled."""
    expected: Expected = {}
    for number in range(jobs):
        special = {3: DIVERGING, 6: ENDLESS}
        wanted = special.get(number % 10) or SUCCEEDING[number % len(SUCCEEDING)]
        key = {"Idempotency-Key": f"chaos-{number}"}
        answer = answered(lambda wanted=wanted, key=key: client.post("/v1/jobs", json=wanted, headers=key))  # type: ignore[misc]
        expected[answer.json()["id"]] = wanted
    return expected


@pytest.mark.parametrize(
    ("seed", "jobs", "storm_seconds"), [(1, 12, 5.0), pytest.param(2, 120, 600.0, marks=pytest.mark.chaos)]
)
@pytest.mark.timeout(1800)
def test_every_job_ends_as_it_should_whatever_is_killed_or_stopped_each_second(
    make_service: Callable[..., Service], until: Until, seed: int, jobs: int, storm_seconds: float
) -> None:
    service = make_service(**SLOTS)
    service.start()
    other = Workers(service)
    storm = Storm(service, other, seed)
    try:
        with patient(service) as client:
            until(lambda: is_ready(client))
            twins = submitted_twins(client)
            undisturbed = [curve(client, job_id) for job_id in twins]
            other.tend()
            expected = submitted(client, jobs)
            began = time.monotonic()
            while (open_jobs := unfinished(client, expected)) and time.monotonic() - began < PATIENCE_SECONDS:
                beginning = time.monotonic()
                if beginning - began < storm_seconds:
                    other.tend()
                    storm.strike()
                else:
                    storm.end()
                cancel_some(client, expected, open_jobs)
                time.sleep(max(0.0, STRIKE_SECONDS - (time.monotonic() - beginning)))
            storm.end()
            assert not open_jobs, "these did not end"
            for job_id, wanted in expected.items():
                check_answer(client, job_id, wanted, undisturbed)
    finally:
        storm.end()
        other.stop()
    assert service.stop() in (0, 1)  # 1 when a part had just been struck
    assert len(storm.struck) >= min(storm_seconds, 4)
    sys.stdout.write(f"{jobs} jobs, {time.monotonic() - began:.0f} s, struck: {dict(Counter(storm.struck))}\n")
    assert not service.left_over()
    aftermath.check_stopped(service.settings, expected, [service.log])


def submitted_twins(client: httpx.Client) -> list[str]:
    return [str(answered(lambda each=each: client.post("/v1/jobs", json=each)).json()["id"]) for each in SUCCEEDING]  # type: ignore[misc]


def unfinished(client: httpx.Client, expected: Expected) -> set[str]:
    """The jobs that are not over, as far as an API that may be stopped tells: if it does not, all."""
    found: set[str] = set()
    with suppress(httpx.TransportError):
        for status in ("queued", "running"):
            answer = client.get("/v1/jobs", params={"status": status, "limit": 200})
            assert answer.status_code in (200, 503), answer.text
            if answer.status_code == 503:
                return set(expected)
            found |= {job["id"] for job in answer.json()["data"]}
        return found
    return set(expected)


def cancel_some(client: httpx.Client, expected: Expected, open_jobs: set[str]) -> None:
    """Asks the endless ones that run to stop."""
    for job_id in [job_id for job_id in open_jobs if expected[job_id] is ENDLESS]:
        with suppress(httpx.TransportError):
            answer = client.get(f"/v1/jobs/{job_id}")
            if answer.status_code == 200 and answer.json()["status"] == "running":
                assert client.post(f"/v1/jobs/{job_id}/cancel").status_code in (200, 202, 409, 503)


def check_answer(client: httpx.Client, job_id: str, wanted: Spec, undisturbed: list[list[float]]) -> None:
    if wanted in SUCCEEDING:
        assert curve(client, job_id) == undisturbed[SUCCEEDING.index(wanted)]
        return
    job = answered(lambda: client.get(f"/v1/jobs/{job_id}")).json()
    if wanted is ENDLESS:
        assert job["status"] == "cancelled", job["error"]
    else:
        assert (job["status"], (job["error"] or {}).get("code")) == ("failed", "non_finite")

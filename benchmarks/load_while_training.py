"""Curves read 20 times a second while eight trainers write theirs: nothing fails, and no step is lost.

Run with `python -m benchmarks.load_while_training [SECONDS]`; ends with 1 when anything is refused, missing or late.
"""

import statistics
import sys
import time

from benchmarks import stage
from benchmarks.stage import Answer, Service

TRAINERS, READS, SECONDS = 8, 20, 60.0
P99_SECONDS = 0.25
CLEARLY = 0.7
SPEC = {
    "task": "classification",
    "dataset": "iris",
    "model": {"type": "linear"},
    "hyperparameters": {"max_steps": 100_000_000, "batch_size": 16},
    "validation": {"every_steps": 1000},
}


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with stage.furnished() as settings:
        with stage.running(settings, TRAINBOX_SLOTS=str(TRAINERS)) as service:
            jobs = [service.post("/v1/jobs", SPEC)["id"] for _ in range(TRAINERS)]
            for job_id in jobs:
                until_it_steps(service, job_id)
            begin, before = time.monotonic(), steps(service, jobs)
            times, failures = read(service, jobs, seconds)
            rates = [
                (after - first) / (time.monotonic() - begin)
                for first, after in zip(before, steps(service, jobs), strict=True)
            ]
            lost = sum(missing(service, job_id) for job_id in jobs)
        locked = "database is locked" in (settings.home / "bench.log").read_text()
    p99 = times[int(0.99 * len(times))]
    print(f"{TRAINERS} trainers, {min(rates):.0f} to {max(rates):.0f} steps/s each")
    print(f"{len(times)} reads: median {1000 * statistics.median(times):.1f} ms, p99 {1000 * p99:.1f} ms")
    print(f"failures {failures}, steps lost {lost}, locked {locked}  goal 0, 0, False; p99 {1000 * P99_SECONDS:g} ms")
    return int(failures > 0 or lost > 0 or locked or CLEARLY * p99 > P99_SECONDS)


def read(service: Service, jobs: list[str], seconds: float) -> tuple[list[float], int]:
    """(how long each read took, in order of length; how many were refused)"""
    times, failures = [], 0
    begin = time.monotonic()
    for number in range(int(READS * seconds)):
        time.sleep(max(0.0, begin + number / READS - time.monotonic()))
        asked = time.perf_counter()
        try:
            service.get(f"/v1/runs/{jobs[number % len(jobs)]}/curves?metric=train_loss&points=1000")
        except Answer:
            failures += 1
        times.append(time.perf_counter() - asked)
    return sorted(times), failures


def until_it_steps(service: Service, job_id: str) -> None:
    while not steps(service, [job_id])[0]:
        time.sleep(0.05)


def steps(service: Service, jobs: list[str]) -> list[int]:
    return [(service.get(f"/v1/jobs/{job_id}")["progress"] or {"step": 0})["step"] for job_id in jobs]


def missing(service: Service, job_id: str) -> int:
    """Steps that the job has taken and its curve does not have, when the job was ended."""
    service.post(f"/v1/jobs/{job_id}/cancel", {})
    job = service.get(f"/v1/jobs/{job_id}?wait=60")
    loss = service.get(f"/v1/runs/{job_id}")["metrics"]["train_loss"]
    taken = int(job["progress"]["step"])
    assert loss["last_step"] == taken
    return taken - int(loss["count"])


if __name__ == "__main__":
    sys.exit(main())

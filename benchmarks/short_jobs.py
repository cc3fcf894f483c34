"""What a study of many short jobs pays for the queue: 32 jobs of 100 steps, against two ways to do without it.

The same 32 trainings one after another in one process, which records nothing; and as scripts, each started fresh, two
at a time. The queue is a real service that keeps every loss, log and outcome.
"""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import learning_rate, stage
from service.studies import points
from service.studies.requests import RateRange

MOST, LEAST = 2.0, 15.0
CLEARLY = 0.7
SCRIPTS, AT_A_TIME = 8, 2
JOBS, STEPS = 32, 100
ROUNDS = 3
RANGE = RateRange(low=1e-4, high=0.1)
STUDY: dict[str, Any] = {
    "kind": "lr_range",
    "base": {"task": "classification", "dataset": "digits"},
    "learning_rates": RANGE.model_dump(),
    "steps": STEPS,
    "seeds": 2,
}


def queued(service: stage.Service) -> float:
    """Seconds from the POST of the study until it is over."""
    begin = perf_counter()
    study = service.post("/v1/studies", STUDY)
    while study["status"] not in ("succeeded", "failed", "cancelled"):
        study = service.get(f"/v1/studies/{study['id']}?wait=60")
    assert study["progress"]["succeeded"] == JOBS, study["progress"]
    return perf_counter() - begin


def sequential(folder: Path) -> float:
    """Seconds of the same trainings in this process."""
    begin = perf_counter()
    for rate in points.rates(RANGE):
        for seed in learning_rate.SEEDS:
            learning_rate.train(folder, "mlp", "adam", rate, seed, max_steps=STEPS)
    return perf_counter() - begin


def scripts() -> float:
    """Seconds of as many scripts, from the time of a few of them."""

    def script(_: int) -> None:
        command = [sys.executable, "-m", "benchmarks.train", str(STEPS)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    begin = perf_counter()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(script, range(SCRIPTS)))
    return (perf_counter() - begin) * JOBS / SCRIPTS


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        folder = learning_rate.save_digits(Path(directory))
        learning_rate.train(folder, "mlp", "adam", 0.01, 0, max_steps=10)
        bare = min(sequential(folder) for _ in range(ROUNDS))
    with stage.furnished() as settings, stage.running(settings) as service:
        queued(service)
        ours = min(queued(service) for _ in range(ROUNDS))
    fresh = scripts()
    print(f"{JOBS} jobs of {STEPS} steps through the queue   {ours:7.2f} s  (least of {ROUNDS})")
    print(f"one after another in one process     {bare:7.2f} s  queue / this {ours / bare:6.2f}  goal at most {MOST:g}")
    print(
        f"fresh scripts, {AT_A_TIME} at a time          {fresh:7.2f} s  over queue {fresh / ours:6.2f}  goal {LEAST:g}"
    )
    return int(ours / bare > MOST / CLEARLY or fresh / ours < LEAST * CLEARLY)


if __name__ == "__main__":
    sys.exit(main())

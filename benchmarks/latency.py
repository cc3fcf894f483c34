"""From the POST of a job to its first recorded step, against starting the same training as a script.

Run with `python -m benchmarks.latency`; ends with 1 when the goal is clearly missed.
"""

import statistics
import subprocess
import sys
import time

from benchmarks import stage

JOBS, SCRIPTS = 15, 3
GOAL = 25.0
CLEARLY = 0.7
PATIENCE_SECONDS = 30.0
SPEC = {"task": "classification", "dataset": "digits", "hyperparameters": {"epochs": 1}}


def main() -> int:
    with stage.furnished() as settings, stage.running(settings) as service:
        first_steps = [until_first_step(service) for _ in range(JOBS + 1)][1:]
    scripts = [until_script_steps() for _ in range(SCRIPTS)]
    job, script = statistics.median(first_steps), statistics.median(scripts)
    ratio = script / job
    print(
        f"POST to first recorded step   {1000 * job:8.1f} ms  (median of {JOBS}, least {1000 * min(first_steps):.1f})"
    )
    print(f"python train.py, fresh        {1000 * script:8.1f} ms  (median of {SCRIPTS})")
    print(f"ratio                         {ratio:8.1f}     goal {GOAL:g}")
    return int(ratio < CLEARLY * GOAL)


def until_first_step(service: stage.Service) -> float:
    """Seconds until a job's first step can be read from the API, which reads what is committed."""
    begin = time.perf_counter()
    job = service.post("/v1/jobs", SPEC)
    path = f"/v1/jobs/{job['id']}"
    while time.perf_counter() - begin < PATIENCE_SECONDS:
        progress = service.get(path)["progress"]
        if progress and progress["step"] > 0:
            seconds = time.perf_counter() - begin
            service.get(f"{path}?wait=30")
            return seconds
    raise TimeoutError(f"{path} has not stepped")


def until_script_steps() -> float:
    """Seconds from starting a Python process to the end of its first step."""
    begin = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "benchmarks.train"], stdout=subprocess.PIPE) as script:
        assert script.stdout is not None
        script.stdout.readline()
        return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())

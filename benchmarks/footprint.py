"""What the service costs while nobody asks for anything, and how soon its API is there.

Run with `python -m benchmarks.footprint`; ends with 1 when a goal is clearly missed.
"""

import sys
import time
from pathlib import Path

from benchmarks import stage

QUIET_SECONDS = 20.0
READY_SECONDS, MEMORY_MIB, IDLE_SHARE = 1.5, 150.0, 0.02
CLEARLY = 1.5
REQUESTS = 200
PATHS = ("/v1/jobs", "/v1/runs", "/v1/datasets?format=text", "/v1/box", "/v1/tasks", "/openapi.json")


def main() -> int:
    with stage.furnished() as settings:
        begin = time.perf_counter()
        with stage.running(settings, "api") as service:
            ready = time.perf_counter() - begin
            for number in range(REQUESTS):
                service.ask("GET", PATHS[number % len(PATHS)])
            memory = service.processes()[0].memory_info().rss / 2**20
            has_torch = "libtorch" in Path(f"/proc/{service.process.pid}/maps").read_text()
        with stage.running(settings) as service:
            before, begin = used(service), time.perf_counter()
            time.sleep(QUIET_SECONDS)
            idle = (used(service) - before) / (time.perf_counter() - begin)
    print(f"API ready after start         {ready:8.2f} s    goal below {READY_SECONDS}")
    print(f"API memory after {REQUESTS} requests  {memory:8.1f} MiB  goal below {MEMORY_MIB:g}")
    print(f"torch in the API              {has_torch!s:>8}      goal False")
    print(f"whole service, idle           {100 * idle:8.2f} %    goal below {100 * IDLE_SHARE:g} of one core")
    missed = ready > CLEARLY * READY_SECONDS or memory > CLEARLY * MEMORY_MIB or idle > CLEARLY * IDLE_SHARE
    return int(missed or has_torch)


def used(service: stage.Service) -> float:
    """Seconds of processor time of all processes of the service, so far."""
    times = [process.cpu_times() for process in service.processes()]
    return sum(time.user + time.system for time in times)


if __name__ == "__main__":
    sys.exit(main())

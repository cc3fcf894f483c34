"""What a trainer uses of its machine: processor and memory, and of its GPU, as the driver and PyTorch count it.

Of processes that train together, processor and memory are added up, and the GPU is the first one's.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import psutil
import torch

from service.tasks import SYSTEM_SERIES

EVERY_SECONDS = 1.0
MIB = 1 << 20
CPU, MEMORY, GPU, GPU_MEMORY = SYSTEM_SERIES


def series(device: torch.device) -> list[str]:
    """The names of what can be measured where the training runs."""
    return list(SYSTEM_SERIES if device.type == "cuda" else SYSTEM_SERIES[:2])


@dataclass
class Meter:
    """Looks about once a second, when it is asked to: each look costs tens of microseconds a process."""

    device: torch.device
    others: Sequence[int] = ()  # pids of the processes that train with this one

    def __post_init__(self) -> None:
        self._processes = [psutil.Process(), *map(psutil.Process, self.others)]
        self._at, self._cpu_seconds = perf_counter(), self._used()

    def look(self) -> dict[str, float]:
        """Values by the names of `series`; none before a second is over. cpu_percent: 100 is one processor."""
        now = perf_counter()
        passed = now - self._at
        if passed < EVERY_SECONDS:
            return {}
        try:
            used = self._used()
            found = {
                CPU: 100 * (used - self._cpu_seconds) / passed,
                MEMORY: sum(each.memory_info().rss for each in self._processes) / MIB,
            }
        except psutil.NoSuchProcess:  # one has died, and the others will hear of it
            return {}
        self._at, self._cpu_seconds = now, used
        if self.device.type == "cuda":
            found[GPU_MEMORY] = torch.cuda.memory_reserved(self.device) / MIB
            # The driver's binding is not everywhere that a GPU is.
            with suppress(ModuleNotFoundError, RuntimeError):
                found[GPU] = float(torch.cuda.utilization(self.device))
        return found

    def _used(self) -> float:
        times = [each.cpu_times() for each in self._processes]
        return sum(each.user + each.system for each in times)

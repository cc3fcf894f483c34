"""What a trainer uses of its machine: processor and memory, and of its GPU, as the driver and PyTorch count it."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
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
    """Looks about once a second, when it is asked to: each look costs tens of microseconds."""

    device: torch.device
    process: psutil.Process = field(default_factory=psutil.Process)
    _at: float = field(default_factory=perf_counter)
    _cpu_seconds: float = field(default_factory=lambda: _cpu_seconds())

    def look(self) -> dict[str, float]:
        """Values by the names of `series`; none before a second is over. cpu_percent: 100 is one processor."""
        now = perf_counter()
        passed = now - self._at
        if passed < EVERY_SECONDS:
            return {}
        used = _cpu_seconds()
        found = {CPU: 100 * (used - self._cpu_seconds) / passed, MEMORY: self.process.memory_info().rss / MIB}
        self._at, self._cpu_seconds = now, used
        if self.device.type == "cuda":
            found[GPU_MEMORY] = torch.cuda.memory_reserved(self.device) / MIB
            # The driver's binding is not everywhere that a GPU is.
            with suppress(ModuleNotFoundError, RuntimeError):
                found[GPU] = float(torch.cuda.utilization(self.device))
        return found


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system

"""What a trainer uses of its machine: processor and memory, and of its GPU, as the driver and PyTorch count it."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import torch

from service.tasks import SYSTEM_SERIES

EVERY_SECONDS = 1.0
MIB = 1 << 20
STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CPU, MEMORY, GPU, GPU_MEMORY = SYSTEM_SERIES


def series(device: torch.device) -> list[str]:
    """The names of what can be measured where the training runs."""
    return list(SYSTEM_SERIES if device.type == "cuda" else SYSTEM_SERIES[:2])


@dataclass
class Meter:
    """Looks about once a second, when it is asked to: each look costs tens of microseconds.

    The first look is for the memory alone, so that a training of less than a second tells it too.
    """

    device: torch.device
    _looked: bool = False
    _at: float = field(default_factory=perf_counter)
    _cpu_seconds: float = field(default_factory=lambda: _cpu_seconds())

    def look(self) -> dict[str, float]:
        """Values by the names of `series`. cpu_percent: 100 is one processor. memory_mib: the most since the last look,
        as between two steps there is little of what a step needs.
        """
        now = perf_counter()
        passed = now - self._at
        found = {}
        if passed >= EVERY_SECONDS:
            used = _cpu_seconds()
            found[CPU] = 100 * (used - self._cpu_seconds) / passed
            self._at, self._cpu_seconds = now, used
        elif self._looked:
            return {}
        self._looked = True
        found[MEMORY] = most_memory_mib()
        if self.device.type == "cuda":
            found[GPU_MEMORY] = torch.cuda.memory_reserved(self.device) / MIB
            # The driver's binding is not everywhere that a GPU is.
            with suppress(ModuleNotFoundError, RuntimeError):
                found[GPU] = float(torch.cuda.utilization(self.device))
        return found


def most_memory_mib() -> float:
    """The most that this process has held since this was last asked, or ever where the kernel does not forget."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    with suppress(OSError):
        REFERENCES.write_text("5")  # sets the mark back to what is held now: proc_pid_clear_refs(5)
    return int(found[1]) / 1024 if found else 0.0


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system

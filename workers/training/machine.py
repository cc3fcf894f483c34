"""What a trainer uses of its machine: processor and memory, and of its GPU, as the driver and PyTorch count it.

Of processes that train together, processor and memory are added up, and the GPU is the first one's.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
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
    """Looks about once a second, when it is asked to: each look costs tens of microseconds a process.

    The first look is for the memory alone, so that a training of less than a second tells it too.
    """

    device: torch.device
    others: Sequence[int] = ()  # pids of the processes that train with this one

    def __post_init__(self) -> None:
        self._processes = [psutil.Process(), *map(psutil.Process, self.others)]
        self._looked, self._at, self._cpu_seconds = False, perf_counter(), self._used()

    def look(self) -> dict[str, float]:
        """Values by the names of `series`. cpu_percent: 100 is one processor. memory_mib: the most since the last look,
        as between two steps there is little of what a step needs.
        """
        now = perf_counter()
        passed = now - self._at
        if passed < EVERY_SECONDS and self._looked:
            return {}
        found = {}
        try:
            if passed >= EVERY_SECONDS:
                used = self._used()
                found[CPU] = 100 * (used - self._cpu_seconds) / passed
                self._at, self._cpu_seconds = now, used
            found[MEMORY] = sum(most_memory_mib(each.pid) for each in self._processes)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            # One of them has died, and the others will hear of it.
            return {}
        self._looked = True
        if self.device.type == "cuda":
            found[GPU_MEMORY] = torch.cuda.memory_reserved(self.device) / MIB
            # Of a part of a GPU, for one, the driver says by an exception of its own that it cannot tell.
            with suppress(Exception):
                found[GPU] = float(torch.cuda.utilization(self.device))
        return found

    def _used(self) -> float:
        times = [each.cpu_times() for each in self._processes]
        return sum(each.user + each.system for each in times)


def most_memory_mib(pid: int) -> float:
    """The most that a process has held since this was last asked, or ever where the kernel does not forget."""
    place = Path(f"/proc/{pid}")
    found = re.search(r"^VmHWM:\s*(\d+) kB$", (place / "status").read_text(), re.MULTILINE)
    with suppress(OSError):
        (place / "clear_refs").write_text("5")  # sets the mark back to what is held now: proc_pid_clear_refs(5)
    return int(found[1]) / 1024 if found else 0.0

"""What a worker has to give out and who holds what: CPU threads, whole GPUs, and shares of one.

A GPU that a process from outside uses is not given out; one whose job has ended is free again only when the driver
no longer lists that job's processes: what counts is the device, not what this worker believes of it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.order import Room
from workers.devices import Device, Probe, Use


@dataclass
class Accelerator:
    """A device, the jobs that hold shares of it, and the processes that the driver lists on it."""

    device: Device
    shares: dict[str, float] = field(default_factory=dict)
    leaving: dict[int, str] = field(default_factory=dict)  # processes of ended jobs, until the driver has seen them go
    foreign: list[Use] = field(default_factory=list)

    @property
    def free(self) -> float:
        """The share that can be given out now."""
        if self.foreign or self.leaving:
            return 0.0
        return max(0.0, 1.0 - sum(self.shares.values()))

    def view(self) -> dict[str, Any]:
        """What the box shows of it."""
        return {
            "index": self.device.index,
            "name": self.device.name,
            "memory_bytes": self.device.memory_bytes,
            "free": round(self.free, 6),
            "jobs": sorted(self.shares),
            "foreign_processes": [{"pid": use.pid, "memory_bytes": use.memory_bytes} for use in self.foreign],
            "waiting_for": sorted(set(self.leaving.values())),
        }


@dataclass(frozen=True)
class Grant:
    """What one job holds."""

    job_id: str
    threads: int
    gpus: float
    devices: tuple[Device, ...]

    @property
    def address(self) -> str:
        """The device that training runs on."""
        return self.addresses(1)[0]

    def addresses(self, processes: int) -> list[str]:
        """The device of each of so many processes: all on the CPU, or one on each GPU."""
        return [device.address for device in self.devices][:processes] or ["cpu"] * processes

    @property
    def device_name(self) -> str:
        """What is remembered of one device holds for all of its name."""
        return self.devices[0].name if self.devices else "cpu"


class Slots:
    """The worker's threads and GPUs."""

    def __init__(self, threads: int, devices: Sequence[Device] = ()) -> None:
        self.threads = threads
        self.free_threads = threads
        self.accelerators = [Accelerator(device) for device in devices]

    @property
    def free(self) -> Room:
        shares = [each.free for each in self.accelerators]
        return Room(self.free_threads, sum(share >= 1 for share in shares), max(shares, default=0.0))

    @property
    def total(self) -> Room:
        count = len(self.accelerators)
        return Room(self.threads, count, 1.0 if count else 0.0)

    def take(self, job_id: str, threads: int, gpus: float) -> Grant:
        """Raises ValueError when so much is not free: a claim asks only for what is."""
        chosen = self._chosen(gpus)
        if threads > self.free_threads or (gpus and not chosen):
            raise ValueError(f"{threads} threads and {gpus} GPUs are not free")
        self.free_threads -= threads
        for each in chosen:
            each.shares[job_id] = min(gpus, 1.0)
        return Grant(job_id, threads, gpus, tuple(each.device for each in chosen))

    def give_back(self, grant: Grant, pids: Collection[int] = ()) -> None:
        """pids: the job's processes, which must be gone from its devices before these are free again."""
        self.free_threads += grant.threads
        for each in self.accelerators:
            if each.device in grant.devices:
                del each.shares[grant.job_id]
                each.leaving.update(dict.fromkeys(pids, grant.job_id))

    def look(self, probe: Probe, own: Collection[int]) -> bool:
        """Asks the driver who uses what. own: processes of this worker's running jobs. Whether anything changed."""
        before = [each.view() for each in self.accelerators]
        for each in self.accelerators:
            uses = probe.uses(each.device)
            present = {use.pid for use in uses}
            each.leaving = {pid: job_id for pid, job_id in each.leaving.items() if pid in present}
            each.foreign = [use for use in uses if use.pid not in own and use.pid not in each.leaving]
        return before != [each.view() for each in self.accelerators]

    def _chosen(self, gpus: float) -> list[Accelerator]:
        """Whole devices, or for a share the device that is fullest already, so that others stay whole."""
        if gpus >= 1:
            whole = [each for each in self.accelerators if each.free >= 1]
            return whole[: int(gpus)] if len(whole) >= gpus else []
        fitting = [each for each in self.accelerators if gpus and each.free >= gpus]
        return sorted(fitting, key=lambda each: each.free)[:1]

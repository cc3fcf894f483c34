"""What a worker has to give out and who holds what: CPU threads, memory, whole GPUs, and shares of one.

What an ended job held is free again only when it has let go of it: threads and memory when none of its processes lives,
a GPU when the driver no longer lists them and the device's memory has fallen. What counts is the machine, not what this
worker believes of it. Where that takes longer than processes take to die, the slot is out of service until it is empty.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.order import UNKNOWN_MEMORY, Room
from workers.devices import Device, Probe, Silent, Use
from workers.processes import KILL_SECONDS

SETTLED_BYTES = 256 << 20  # of a device's memory that nobody is told to hold: contexts and caches of the driver


@dataclass
class Leaving:
    """An ended attempt that may still hold something. pids: its processes that live on."""

    grant: "Grant"
    attempt: str
    since: float
    pids: list[int] = field(default_factory=list)
    overdue: bool = False

    def view(self) -> dict[str, Any]:
        """What the box shows of it."""
        return {
            "job_id": self.grant.job_id,
            "threads": self.grant.threads,
            "memory_mib": self.grant.memory_mib,
            "pids": sorted(self.pids),
        }


@dataclass
class Accelerator:
    """A device, the jobs that hold shares of it, and the processes that the driver lists on it.

    leaving: processes of ended jobs, until the driver has seen them go. lingering: jobs that have ended, while more of
    its memory is used than when it was idle; since: when the last one of them ended. silent: why the driver tells
    nothing of it.
    """

    device: Device
    shares: dict[str, float] = field(default_factory=dict)
    leaving: dict[int, str] = field(default_factory=dict)
    lingering: set[str] = field(default_factory=set)
    since: float = 0.0
    foreign: list[Use] = field(default_factory=list)
    idle_bytes: int | None = None
    overdue: bool = False
    silent: str | None = None

    @property
    def in_service(self) -> bool:
        return not self.overdue and self.silent is None

    @property
    def free(self) -> float:
        """The share that can be given out now."""
        if self.foreign or self.leaving or self.lingering or self.silent is not None:
            return 0.0
        return max(0.0, 1.0 - sum(self.shares.values()))

    def leave(self, job_id: str, pids: Collection[int], now: float) -> None:
        del self.shares[job_id]
        self.leaving.update(dict.fromkeys(pids, job_id))
        self.lingering.add(job_id)
        self.since = now

    def look(self, uses: Sequence[Use], used_bytes: int, own: Collection[int], now: float) -> None:
        """Takes in what the driver says. own: processes of this worker's running jobs."""
        present = {use.pid for use in uses}
        self.leaving = {pid: job_id for pid, job_id in self.leaving.items() if pid in present}
        self.foreign = [use for use in uses if not use.draws and use.pid not in own and use.pid not in self.leaving]
        unnamed = used_bytes - sum(use.memory_bytes for use in uses)
        if not self.shares and not self.leaving and not self.lingering:
            self.idle_bytes = unnamed
        # Of a process whose memory the driver does not tell, the memory of others cannot be told apart.
        measurable = self.idle_bytes is not None and all(use.memory_bytes for use in uses)
        if not self.leaving and (not measurable or unnamed <= (self.idle_bytes or 0) + SETTLED_BYTES):
            self.lingering.clear()
        self.overdue = bool(self.leaving or self.lingering) and now - self.since > KILL_SECONDS

    def view(self) -> dict[str, Any]:
        """What the box shows of it."""
        waiting_for = sorted({*self.leaving.values(), *self.lingering})
        return {
            "index": self.device.index,
            "name": self.device.name,
            "memory_bytes": self.device.memory_bytes,
            "compute_capability": self.device.capability,
            "free": round(self.free, 6),
            "jobs": sorted(self.shares),
            "foreign_processes": [{"pid": use.pid, "memory_bytes": use.memory_bytes} for use in self.foreign],
            "waiting_for": waiting_for,
            "out_of_service": not self.in_service,
            "silent": self.silent,
        }


@dataclass(frozen=True)
class Grant:
    """What one job holds. memory_mib: 0 when it did not say what it needs."""

    job_id: str
    threads: int
    gpus: float
    devices: tuple[Device, ...]
    memory_mib: int = 0

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
    """The worker's threads, memory and GPUs."""

    def __init__(self, threads: int, devices: Sequence[Device] = (), memory_mib: int = UNKNOWN_MEMORY) -> None:
        self.threads, self.memory_mib = threads, memory_mib
        self.free_threads, self.free_memory_mib = threads, memory_mib
        self.accelerators = [Accelerator(device) for device in devices]
        self.leaving: list[Leaving] = []

    @property
    def free(self) -> Room:
        shares = [each.free for each in self.accelerators]
        whole = sum(share >= 1 for share in shares)
        return Room(self.free_threads, whole, max(shares, default=0.0), self.free_memory_mib)

    @property
    def total(self) -> Room:
        """All that is in service: what is not might never be given out again."""
        count = sum(each.in_service for each in self.accelerators)
        lost = [each.grant for each in self.leaving if each.overdue]
        threads = self.threads - sum(grant.threads for grant in lost)
        memory = self.memory_mib - sum(grant.memory_mib for grant in lost)
        return Room(threads, count, 1.0 if count else 0.0, memory)

    @property
    def settling(self) -> bool:
        """Whether something of an ended job is waited for."""
        return bool(self.leaving) or any(each.leaving or each.lingering for each in self.accelerators)

    @property
    def out_of_service(self) -> list[dict[str, Any]]:
        """Threads and memory that ended jobs hold for longer than their processes may take to die."""
        return [each.view() for each in self.leaving if each.overdue]

    def take(self, job_id: str, threads: int, gpus: float, memory_mib: int | None = None) -> Grant:
        """Raises ValueError when so much is not free: a claim asks only for what is."""
        chosen, memory = self._chosen(gpus), memory_mib or 0
        if threads > self.free_threads or memory > self.free_memory_mib or (gpus and not chosen):
            raise ValueError(f"{threads} threads, {gpus} GPUs and {memory} MiB are not free")
        self.free_threads -= threads
        self.free_memory_mib -= memory
        for each in chosen:
            each.shares[job_id] = min(gpus, 1.0)
        return Grant(job_id, threads, gpus, tuple(each.device for each in chosen), memory)

    def give_back(self, grant: Grant) -> None:
        """For a job that has not started: nothing of it can be left."""
        self._free(grant)
        for each in self._of(grant):
            del each.shares[grant.job_id]

    def leave(self, grant: Grant, attempt: str, pids: Collection[int], now: float) -> None:
        """The trainer has ended: what its job held is free once it has let go of it.

        attempt: as its processes are marked. pids: those that were on its devices. now: a clock that only goes on.
        """
        self.leaving.append(Leaving(grant, attempt, now))
        for each in self._of(grant):
            each.leave(grant.job_id, pids, now)

    def settle(self, living: Mapping[str | None, Collection[int]], now: float) -> bool:
        """Frees threads and memory of ended attempts without processes. Whether anything changed for the box.

        living: processes of each ended attempt that live; under None those that nobody knows an attempt of.
        """
        before = self.out_of_service
        for each in self.leaving:
            each.pids = [*living.get(each.attempt, ()), *living.get(None, ())]
            each.overdue = bool(each.pids) and now - each.since > KILL_SECONDS
            if not each.pids:
                self._free(each.grant)
        self.leaving = [each for each in self.leaving if each.pids]
        return before != self.out_of_service

    def look(self, probe: Probe, own: Collection[int], now: float) -> bool:
        """Asks the driver who uses what. own: processes of this worker's running jobs. Whether anything changed."""
        before = [each.view() for each in self.accelerators]
        for each in self.accelerators:
            try:
                each.look(probe.uses(each.device), probe.used_bytes(each.device), own, now)
                each.silent = None
            except Silent as error:
                each.silent = str(error)
        return before != [each.view() for each in self.accelerators]

    def _free(self, grant: Grant) -> None:
        self.free_threads += grant.threads
        self.free_memory_mib += grant.memory_mib

    def _of(self, grant: Grant) -> list[Accelerator]:
        return [each for each in self.accelerators if each.device in grant.devices]

    def _chosen(self, gpus: float) -> list[Accelerator]:
        """Whole devices, or for a share the device that is fullest already, so that others stay whole."""
        if gpus >= 1:
            whole = [each for each in self.accelerators if each.free >= 1]
            return whole[: int(gpus)] if len(whole) >= gpus else []
        fitting = [each for each in self.accelerators if gpus and each.free >= gpus]
        return sorted(fitting, key=lambda each: each.free)[:1]

"""Threads, whole GPUs and shares of one; and GPUs that somebody outside the queue uses."""

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from service import crew
from service.order import Room, Waiting
from service.settings import trainer_environment
from service.tables import WorkerRow
from workers.devices import Device, Driver, Silent, Use
from workers.slots import Slots

GIB = 1 << 30


@dataclass
class Machine:
    """A machine with GPUs, and whatever processes a test puts on them."""

    count: int = 2
    capability: tuple[int, int] | None = (8, 0)
    running: dict[int, list[Use]] = field(default_factory=dict)
    unnamed: dict[int, int] = field(default_factory=dict)  # memory that no process is listed with
    silent: set[int] = field(default_factory=set)

    def devices(self) -> list[Device]:
        return [Device(index, "GPU", 16 * GIB, self.capability) for index in range(self.count)]

    def uses(self, device: Device) -> list[Use]:
        if device.index in self.silent:
            raise Silent("GPU is lost")
        return self.running.get(device.index, [])

    def used_bytes(self, device: Device) -> int:
        return self.unnamed.get(device.index, GIB // 4) + sum(use.memory_bytes for use in self.uses(device))


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def slots(machine: Machine) -> Slots:
    return Slots(4, machine.devices())


def job(gpus: float, threads: int = 1) -> Waiting:
    return Waiting(1, "ada", 0, threads, gpus, 0.0)


def test_threads_are_taken_and_given_back(slots: Slots) -> None:
    grant = slots.take("job", 3, 0)
    assert (slots.free.threads, grant.address) == (1, "cpu")
    with pytest.raises(ValueError, match="not free"):
        slots.take("other", 2, 0)
    slots.give_back(grant)
    assert slots.free == slots.total == Room(4, 2, 1.0)


def test_whole_gpus_go_to_one_job_each(slots: Slots) -> None:
    first, second = slots.take("a", 1, 1), slots.take("b", 1, 1)
    assert (first.address, second.address) == ("cuda:0", "cuda:1")
    assert slots.free == Room(2, 0, 0.0)
    slots.give_back(first)
    assert slots.take("c", 1, 1).address == "cuda:0"


def test_each_process_of_a_job_has_a_gpu_of_its_own_or_they_share_the_cpu(slots: Slots) -> None:
    assert slots.take("a", 2, 2).addresses(2) == ["cuda:0", "cuda:1"]
    assert slots.take("b", 2, 0).addresses(2) == ["cpu", "cpu"]


def test_shares_fill_one_gpu_before_they_open_another(slots: Slots) -> None:
    assert [slots.take(name, 1, 0.5).address for name in "abc"] == ["cuda:0", "cuda:0", "cuda:1"]
    assert slots.free == Room(1, 0, 0.5)
    assert slots.free.hold(job(0.5))
    assert not slots.free.hold(job(0.6))
    assert not slots.free.hold(job(1))


def test_a_gpu_that_somebody_else_uses_is_routed_around(slots: Slots, machine: Machine) -> None:
    machine.running = {0: [Use(4711, GIB)]}
    assert slots.look(machine, own=[], now=0.0)
    assert slots.accelerators[0].view()["foreign_processes"] == [{"pid": 4711, "memory_bytes": GIB}]
    assert slots.take("job", 1, 1).address == "cuda:1"
    assert not slots.free.hold(job(1))
    machine.running = {}
    assert slots.look(machine, own=[], now=0.0)
    assert slots.free.hold(job(1))


def test_a_gpu_of_an_ended_job_is_free_when_the_driver_has_seen_its_process_go(slots: Slots, machine: Machine) -> None:
    grant = slots.take("job", 1, 1)
    machine.running = {0: [Use(99, GIB)]}
    slots.look(machine, own=[99], now=0.0)
    assert slots.accelerators[0].foreign == []
    slots.leave(grant, "job/1", [99], now=1.0)
    slots.look(machine, own=[], now=1.0)
    assert slots.accelerators[0].free == 0
    assert slots.accelerators[0].view()["waiting_for"] == ["job"]
    machine.running = {}
    slots.look(machine, own=[], now=2.0)
    assert slots.accelerators[0].free == 1


def test_a_gpu_of_an_ended_job_is_free_when_its_memory_has_fallen_and_not_before(
    slots: Slots, machine: Machine
) -> None:
    """A driver lists no process of another container: then the memory alone tells."""
    slots.look(machine, own=[], now=0.0)
    grant = slots.take("job", 1, 1)
    machine.unnamed = {0: 9 * GIB}
    slots.look(machine, own=[], now=1.0)
    slots.leave(grant, "job/1", [], now=2.0)
    for now, overdue in ((2.0, False), (11.0, False), (13.0, True)):
        slots.look(machine, own=[], now=now)
        assert slots.accelerators[0].free == 0
        assert slots.accelerators[0].view()["out_of_service"] is overdue
    assert slots.total.gpus == 1, "nothing is kept free for what may never come back"
    assert slots.take("other", 1, 1).address == "cuda:1"
    machine.unnamed = {}
    assert slots.look(machine, own=[], now=14.0)
    assert slots.accelerators[0].free == 1
    assert slots.accelerators[0].view()["out_of_service"] is False
    assert not slots.accelerators[0].lingering
    assert slots.total.gpus == 2


def test_a_shared_gpu_is_given_out_again_beside_the_job_that_stays(slots: Slots, machine: Machine) -> None:
    slots.look(machine, own=[], now=0.0)
    grants = [slots.take(name, 1, 0.5) for name in "ab"]
    machine.running = {0: [Use(1, GIB), Use(2, 2 * GIB)]}
    slots.look(machine, own=[1, 2], now=1.0)
    slots.leave(grants[0], "a/1", [1], now=2.0)
    machine.running = {0: [Use(2, 2 * GIB)]}
    machine.unnamed = {0: GIB // 4 + GIB}
    slots.look(machine, own=[2], now=2.5)
    assert slots.accelerators[0].free == 0, "its memory has not come back yet"
    machine.unnamed = {}
    slots.look(machine, own=[2], now=3.0)
    assert slots.accelerators[0].free == 0.5


def test_memory_is_given_out_like_threads() -> None:
    slots = Slots(4, memory_mib=8000)
    grant = slots.take("job", 1, 0, 6000)
    assert slots.free == Room(3, 0, 0.0, 2000)
    with pytest.raises(ValueError, match="3000 MiB are not free"):
        slots.take("other", 1, 0, 3000)
    assert slots.take("modest", 1, 0).memory_mib == 0
    slots.give_back(grant)
    assert slots.free.memory_mib == slots.total.memory_mib == 8000


def test_what_an_ended_job_held_is_free_when_none_of_its_processes_lives_and_out_of_service_when_that_takes_long() -> (
    None
):
    slots = Slots(4, memory_mib=8000)
    slots.leave(slots.take("job", 3, 0, 6000), "job/2", [], now=0.0)
    slots.leave(slots.take("other", 1, 0), "other/1", [], now=0.0)
    living: dict[str | None, list[int]] = {"job/2": [99]}
    assert not slots.settle(living, now=9.0)
    assert (slots.free.threads, slots.free.memory_mib) == (1, 2000)
    assert slots.settle(living, now=11.0)
    assert slots.out_of_service == [{"job_id": "job", "threads": 3, "memory_mib": 6000, "pids": [99]}]
    assert slots.total == Room(1, 0, 0.0, 2000)
    assert slots.settling
    assert slots.settle({}, now=20.0)
    assert slots.free == slots.total == Room(4, 0, 0.0, 8000)
    assert not slots.settling


def test_nothing_has_changed_when_the_driver_says_the_same(slots: Slots, machine: Machine) -> None:
    assert not slots.look(machine, own=[], now=0.0)


def test_a_display_server_keeps_no_job_from_its_gpu(slots: Slots, machine: Machine) -> None:
    machine.running = {0: [Use(4711, GIB // 8, draws=True)]}
    slots.look(machine, own=[], now=0.0)
    assert slots.free == Room(4, 2, 1.0)
    slots.leave(slots.take("job", 1, 1), "job/1", [99], now=1.0)
    machine.running = {0: [Use(4711, GIB, draws=True)]}
    slots.look(machine, own=[], now=2.0)
    assert slots.free.gpus == 2, "what it draws is no memory of the job"


def test_a_gpu_of_which_the_driver_tells_nothing_is_out_of_service_until_it_does(
    slots: Slots, machine: Machine
) -> None:
    machine.silent = {0}
    assert slots.look(machine, own=[], now=0.0)
    assert slots.free == slots.total == Room(4, 1, 1.0)
    assert slots.take("job", 1, 1).address == "cuda:1"
    worker = WorkerRow(slots=4, devices=[each.view() for each in slots.accelerators], out_of_service=[])
    assert crew.out_of_service(worker) == ["out of service: GPU 0, of which the driver says: GPU is lost"]
    machine.silent = set()
    assert slots.look(machine, own=[], now=1.0)
    assert slots.total == Room(4, 2, 1.0)


class Binding(ModuleType):
    """Stands in for NVIDIA's, on a machine with three GPUs."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.lost: set[int] = set()

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{'abc'[handle]}0000000"

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"GPU of slot {handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        if handle in self.lost:
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(total=16 * GIB, used=GIB)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=2, usedGpuMemory=7), SimpleNamespace(pid=3, usedGpuMemory=None)]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=1, usedGpuMemory=5), SimpleNamespace(pid=2, usedGpuMemory=7)]

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return (8, 0)


@pytest.fixture
def binding(monkeypatch: pytest.MonkeyPatch) -> Binding:
    made = Binding()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, {0: "cuda:0", 1: "cuda:1", 2: "cuda:2"}),
        ("2,0", {2: "cuda:0", 0: "cuda:1"}),
        ("GPU-b, GPU-c0000000", {1: "cuda:0", 2: "cuda:1"}),
        ("1,7,0", {1: "cuda:0"}),
        ("1,1", {1: "cuda:0"}),
        ("-1", {}),
        ("", {}),
    ],
)
@pytest.mark.usefixtures("binding")
def test_a_worker_has_the_gpus_that_cuda_shows_it_under_the_numbers_that_torch_gives_them(
    visible: str | None, found: dict[int, str]
) -> None:
    devices = Driver(visible).devices()
    assert {device.index: device.address for device in devices} == found
    assert [device.name for device in devices] == [f"GPU of slot {index}" for index in found]


@pytest.mark.usefixtures("binding")
def test_the_driver_tells_who_only_draws_and_names_each_process_once() -> None:
    assert Driver().uses(Device(0, "GPU", 16 * GIB)) == [Use(1, 5, draws=True), Use(2, 7), Use(3, 0)]


def test_a_gpu_that_does_not_answer_is_no_device_and_one_that_stops_answering_is_silent(binding: Binding) -> None:
    binding.lost = {1}
    assert [device.address for device in Driver().devices()] == ["cuda:0", "cuda:2"]
    with pytest.raises(Silent, match="GPU is lost"):
        Driver().used_bytes(Device(1, "GPU", 16 * GIB))


def test_trainers_count_gpus_as_the_driver_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    told = trainer_environment()
    assert (told["CUDA_DEVICE_ORDER"], told["CUDA_VISIBLE_DEVICES"]) == ("PCI_BUS_ID", "1")


def test_a_machine_without_a_driver_has_no_devices() -> None:
    assert Driver().devices() == [] or Driver().devices()[0].memory_bytes > 0

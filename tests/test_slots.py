"""Threads, whole GPUs and shares of one; and GPUs that somebody outside the queue uses."""

from dataclasses import dataclass, field

import pytest

from service.order import Room, Waiting
from workers.devices import Device, Driver, Use
from workers.slots import Slots

GIB = 1 << 30


@dataclass
class Machine:
    """A machine with GPUs, and whatever processes a test puts on them."""

    count: int = 2
    running: dict[int, list[Use]] = field(default_factory=dict)

    def devices(self) -> list[Device]:
        return [Device(index, "GPU", 16 * GIB) for index in range(self.count)]

    def uses(self, device: Device) -> list[Use]:
        return self.running.get(device.index, [])


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
    assert slots.look(machine, own=[])
    assert slots.accelerators[0].view()["foreign_processes"] == [{"pid": 4711, "memory_bytes": GIB}]
    assert slots.take("job", 1, 1).address == "cuda:1"
    assert not slots.free.hold(job(1))
    machine.running = {}
    assert slots.look(machine, own=[])
    assert slots.free.hold(job(1))


def test_a_gpu_of_an_ended_job_is_free_when_the_driver_has_seen_its_process_go(slots: Slots, machine: Machine) -> None:
    grant = slots.take("job", 1, 1)
    machine.running = {0: [Use(99, GIB)]}
    slots.look(machine, own=[99])
    assert slots.accelerators[0].foreign == []
    slots.give_back(grant, pids=[99])
    slots.look(machine, own=[])
    assert slots.accelerators[0].free == 0
    assert slots.accelerators[0].view()["waiting_for"] == ["job"]
    machine.running = {}
    slots.look(machine, own=[])
    assert slots.accelerators[0].free == 1


def test_nothing_has_changed_when_the_driver_says_the_same(slots: Slots, machine: Machine) -> None:
    assert not slots.look(machine, own=[])


def test_a_machine_without_a_driver_has_no_devices() -> None:
    assert Driver().devices() == [] or Driver().devices()[0].memory_bytes > 0

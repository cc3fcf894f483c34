"""Which accelerators this machine has and who uses them: asked of the driver, without touching a GPU."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Device:
    """An accelerator that can be given to jobs.

    capability: NVIDIA's number for what it can compute, as (major, minor); None when the driver does not say.
    """

    index: int
    name: str
    memory_bytes: int
    capability: tuple[int, int] | None = None

    @property
    def address(self) -> str:
        """What torch calls it."""
        return f"cuda:{self.index}"


@dataclass(frozen=True)
class Use:
    """A process that holds memory of a device."""

    pid: int
    memory_bytes: int


class Probe(Protocol):
    """What can be asked about accelerators; tests have one of their own."""

    def devices(self) -> list[Device]: ...

    def uses(self, device: Device) -> list[Use]: ...

    def used_bytes(self, device: Device) -> int:
        """Of the device's memory, whoever holds it: the driver lists no process of another container."""
        ...


class Driver:
    """NVIDIA's driver. Without one, or without its Python binding, there are no devices."""

    def devices(self) -> list[Device]:
        driver = self._opened()
        if driver is None:
            return []
        return [self._device(driver, index) for index in range(driver.nvmlDeviceGetCount())]

    def uses(self, device: Device) -> list[Use]:
        driver = self._opened()
        if driver is None:
            return []
        handle = driver.nvmlDeviceGetHandleByIndex(device.index)
        found = [
            *driver.nvmlDeviceGetComputeRunningProcesses(handle),
            *driver.nvmlDeviceGetGraphicsRunningProcesses(handle),
        ]
        return [Use(int(each.pid), int(each.usedGpuMemory or 0)) for each in found]

    def used_bytes(self, device: Device) -> int:
        driver = self._opened()
        if driver is None:
            return 0
        return int(driver.nvmlDeviceGetMemoryInfo(driver.nvmlDeviceGetHandleByIndex(device.index)).used)

    def _opened(self) -> Any:
        """The binding, initialised; None when there is nothing to ask. Opening it again costs little."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return None
        return pynvml

    def _device(self, driver: Any, index: int) -> Device:
        handle = driver.nvmlDeviceGetHandleByIndex(index)
        memory = driver.nvmlDeviceGetMemoryInfo(handle).total
        try:
            major, minor = driver.nvmlDeviceGetCudaComputeCapability(handle)
        except driver.NVMLError:
            return Device(index, str(driver.nvmlDeviceGetName(handle)), int(memory))
        return Device(index, str(driver.nvmlDeviceGetName(handle)), int(memory), (int(major), int(minor)))

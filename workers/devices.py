"""Which accelerators this machine has and who uses them: asked of the driver, without touching a GPU."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Device:
    """An accelerator that can be given to jobs.

    index: the driver's number, as `nvidia-smi` shows it. capability: NVIDIA's number for what it can compute, as
    (major, minor); None when the driver does not say. ordinal: torch's number, where it is another one.
    """

    index: int
    name: str
    memory_bytes: int
    capability: tuple[int, int] | None = None
    ordinal: int | None = None

    @property
    def address(self) -> str:
        """What torch calls it."""
        return f"cuda:{self.index if self.ordinal is None else self.ordinal}"


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
    """NVIDIA's driver. Without one, or without its Python binding, there are no devices.

    visible: which of them there are for CUDA, as in CUDA_VISIBLE_DEVICES; None for all.
    """

    def __init__(self, visible: str | None = None) -> None:
        self._visible = visible

    def devices(self) -> list[Device]:
        driver = self._opened()
        if driver is None:
            return []
        shown = self._shown(driver)
        return [self._device(driver, index, ordinal) for ordinal, index in enumerate(shown)]

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

    def _shown(self, driver: Any) -> list[int]:
        """The driver's numbers of what CUDA shows, in CUDA's order: up to the first entry that names no GPU."""
        every = list(range(driver.nvmlDeviceGetCount()))
        if self._visible is None:
            return every
        uuids = [str(driver.nvmlDeviceGetUUID(driver.nvmlDeviceGetHandleByIndex(index))) for index in every]
        shown: list[int] = []
        for entry in map(str.strip, self._visible.split(",")):
            named = [index for index in every if entry and (entry == str(index) or uuids[index].startswith(entry))]
            if len(named) != 1 or named[0] in shown:
                break
            shown += named
        return shown

    def _device(self, driver: Any, index: int, ordinal: int) -> Device:
        handle = driver.nvmlDeviceGetHandleByIndex(index)
        name, memory = str(driver.nvmlDeviceGetName(handle)), int(driver.nvmlDeviceGetMemoryInfo(handle).total)
        try:
            major, minor = driver.nvmlDeviceGetCudaComputeCapability(handle)
        except driver.NVMLError:
            return Device(index, name, memory, None, ordinal)
        return Device(index, name, memory, (int(major), int(minor)), ordinal)

"""Which accelerators this machine has and who uses them: asked of the driver, without touching a GPU."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger()


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
    """A process that holds memory of a device. draws: whether it only does graphics on it, as a display server does."""

    pid: int
    memory_bytes: int
    draws: bool = False


class Silent(Exception):
    """The driver tells nothing of a device: it has fallen off the bus, say."""


class Probe(Protocol):
    """What can be asked about accelerators; tests have one of their own."""

    def devices(self) -> list[Device]: ...

    def uses(self, device: Device) -> list[Use]:
        """Raises Silent."""
        ...

    def used_bytes(self, device: Device) -> int:
        """Of the device's memory, whoever holds it: the driver lists no process of another container. Raises Silent."""
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
        found = []
        for ordinal, index in enumerate(self._shown(driver)):
            try:
                found.append(self._device(driver, index, ordinal))
            except driver.NVMLError as error:
                log.warning("a GPU does not answer", gpu=index, error=str(error))
        return found

    def uses(self, device: Device) -> list[Use]:
        def ask(driver: Any, handle: Any) -> list[Use]:
            drawing = driver.nvmlDeviceGetGraphicsRunningProcesses(handle)
            found = {int(each.pid): Use(int(each.pid), int(each.usedGpuMemory or 0), draws=True) for each in drawing}
            for each in driver.nvmlDeviceGetComputeRunningProcesses(handle):
                found[int(each.pid)] = Use(int(each.pid), int(each.usedGpuMemory or 0))
            return list(found.values())

        return self._told(device, ask)

    def used_bytes(self, device: Device) -> int:
        return self._told(device, lambda driver, handle: int(driver.nvmlDeviceGetMemoryInfo(handle).used))

    def _told(self, device: Device, ask: Callable[[Any, Any], T]) -> T:
        driver = self._opened()
        if driver is None:
            raise Silent("there is no driver any more")
        try:
            return ask(driver, driver.nvmlDeviceGetHandleByIndex(device.index))
        except driver.NVMLError as error:
            raise Silent(str(error)) from error

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
        uuids = [self._uuid(driver, index) for index in every]
        shown: list[int] = []
        for entry in map(str.strip, self._visible.split(",")):
            named = [index for index in every if entry and (entry == str(index) or uuids[index].startswith(entry))]
            if len(named) != 1 or named[0] in shown:
                break
            shown += named
        return shown

    def _uuid(self, driver: Any, index: int) -> str:
        try:
            return str(driver.nvmlDeviceGetUUID(driver.nvmlDeviceGetHandleByIndex(index)))
        except driver.NVMLError:
            return ""

    def _device(self, driver: Any, index: int, ordinal: int) -> Device:
        handle = driver.nvmlDeviceGetHandleByIndex(index)
        name, memory = str(driver.nvmlDeviceGetName(handle)), int(driver.nvmlDeviceGetMemoryInfo(handle).total)
        try:
            major, minor = driver.nvmlDeviceGetCudaComputeCapability(handle)
        except driver.NVMLError:
            return Device(index, name, memory, None, ordinal)
        return Device(index, name, memory, (int(major), int(minor)), ordinal)

"""Which accelerators this machine has: asked of the driver, without touching a GPU."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Device:
    """An accelerator that can be given to a job."""

    index: int
    name: str
    memory_bytes: int

    @property
    def address(self) -> str:
        """What torch calls it."""
        return f"cuda:{self.index}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Probe = Callable[[], list[Device]]


def ask_driver() -> list[Device]:
    """The GPUs that NVIDIA's driver tells of; none where there is no driver, or its Python binding is missing."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_device(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _device(pynvml: Any, index: int) -> Device:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    name = pynvml.nvmlDeviceGetName(handle)
    return Device(index, str(name), int(pynvml.nvmlDeviceGetMemoryInfo(handle).total))

"""What a worker has to give out, and who holds what: CPU threads and whole GPUs."""

from dataclasses import dataclass, field

from workers.devices import Device


@dataclass(frozen=True)
class Grant:
    """What one trainer holds."""

    threads: int
    devices: tuple[Device, ...]

    @property
    def address(self) -> str:
        """The device that training runs on."""
        return self.devices[0].address if self.devices else "cpu"


@dataclass
class Slots:
    """The worker's threads and GPUs; a GPU is given to one job at a time."""

    free_threads: int
    free_devices: list[Device] = field(default_factory=list)

    def take(self, threads: int, gpus: int) -> Grant:
        """Raises ValueError when so much is not free: a claim asks only for what is."""
        if threads > self.free_threads or gpus > len(self.free_devices):
            raise ValueError(f"{threads} threads and {gpus} GPUs are not free")
        self.free_threads -= threads
        given, self.free_devices = self.free_devices[:gpus], self.free_devices[gpus:]
        return Grant(threads, tuple(given))

    def give_back(self, grant: Grant) -> None:
        self.free_threads += grant.threads
        self.free_devices = sorted([*self.free_devices, *grant.devices], key=lambda device: device.index)

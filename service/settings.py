"""Every setting, read once at the entry point and passed on. The only place that reads the environment."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# Bounds that keep sums of times within what dates and 64 bits can say.
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]
Days = Annotated[float, Field(ge=0, le=36_500)]


class Settings(BaseSettings):
    """What an operator can set: each field is a `TRAINBOX_*` variable."""

    model_config = SettingsConfigDict(env_prefix="TRAINBOX_", frozen=True, extra="ignore")

    home: Path = Field(
        default=Path("~/.local/share/trainbox"), description="where all state lives; a local disk, not a network one"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on")
    allow_remote: bool = Field(default=False, description="permit an address other machines can reach")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="further `host:port` values a request may name in Host and Origin, comma-separated"
    )
    slots: PositiveInt = Field(
        default_factory=lambda: os.cpu_count() or 1, description="CPU threads given out to jobs at a time"
    )
    lease_seconds: Seconds = Field(default=30.0, description="how long a silent worker keeps its jobs")
    backoff_seconds: float = Field(
        default=10.0,
        ge=0,
        description="wait before a lost job starts again; doubles while none leaves a checkpoint, up to 5 minutes",
    )
    stop_seconds: Seconds = Field(default=30.0, description="how long a trainer may take to stop when asked")
    stall_seconds: Seconds = Field(
        default=300.0, description="how long a trainer may take no step; longer when its steps are slow"
    )
    max_log_mib: PositiveInt = Field(default=50, description="what is kept of an attempt's log, half of it the end")
    memory_mib: PositiveInt | None = Field(
        default=None, description="memory given out to jobs that say what they need; unset: 90 % of the machine's"
    )
    trainer_memory_mib: PositiveInt | None = Field(
        default=None, description="memory a trainer may allocate; unset: what the machine has"
    )
    requests_per_second: PositiveInt = Field(default=200, description="requests a token may make; bursts of twice that")
    max_connections: PositiveInt = Field(default=256, description="connections held at a time")
    max_queued_jobs: PositiveInt = Field(default=10_000, description="queued jobs in all")
    max_queued_jobs_per_user: PositiveInt = Field(default=1_000, description="queued jobs of one user")
    max_running_jobs_per_user: PositiveInt | None = Field(
        default=None, description="jobs of one user that may run at a time; unset: as many as there are slots"
    )
    data_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="folders whose files may be registered as data sets where they are, separated by colons"
    )
    max_upload_mib: PositiveInt = Field(default=2048, description="size of an uploaded data set")
    max_datasets_mib_per_user: PositiveInt = Field(
        default=20_480, description="disk that the data sets of one user may take"
    )
    inspection_memory_mib: PositiveInt = Field(default=1024, description="memory for reading an uploaded data set")
    inspection_seconds: PositiveInt = Field(default=20, description="CPU time for reading an uploaded data set")
    min_free_mib: NonNegativeInt | None = Field(
        default=None, description="disk that must stay free; unset: 2 GiB or 5 % of the disk, whichever is less"
    )
    keep_logs_days: Days | None = Field(
        default=None, description="days to keep the logs of a job that is over; unset: for ever"
    )
    keep_checkpoints_days: Days | None = Field(
        default=None, description="days to keep the checkpoints of a job that is over; unset: for ever"
    )
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="what is logged")

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        if isinstance(given, str):
            return tuple(part.strip() for part in given.split(",") if part.strip())
        return given

    @field_validator("data_roots", mode="before")
    @classmethod
    def _folders(cls, given: object) -> object:
        if isinstance(given, str):
            return tuple(Path(part).expanduser().absolute() for part in given.split(os.pathsep) if part)
        return given

    def model_post_init(self, _context: object) -> None:
        object.__setattr__(self, "home", self.home.expanduser().absolute())

    @property
    def database_path(self) -> Path:
        return self.home / "trainbox.db"

    @property
    def token_path(self) -> Path:
        """Where the first start leaves the admin's token, readable by the service's user alone."""
        return self.home / "admin.token"

    @property
    def datasets_path(self) -> Path:
        return self.home / "datasets"

    @property
    def uploads_path(self) -> Path:
        """What is on its way to become a data set; what a crash leaves there goes at the next start."""
        return self.home / "uploads"

    @property
    def jobs_path(self) -> Path:
        return self.home / "jobs"

    @property
    def run_path(self) -> Path:
        """Locks and wake-up pipes of the processes that are alive now."""
        return self.home / "run"


# What trainers and inspections may see of the service's environment; everything else, secrets included, stays out.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "NCCL_")


def visible_gpus() -> str | None:
    """What CUDA_VISIBLE_DEVICES leaves to this process and to trainers; None for every GPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def trainer_environment() -> dict[str, str]:
    """The environment that trainers start with: one thread until a trainer asks for its own number.

    CUDA counts GPUs in the order that the driver lists them in, not the fastest first. With cuBLAS's fixed workspace
    the same steps on a GPU give the same bits (docs.nvidia.com/cuda/cublas). Of several processes that train together,
    each would advise in the log against what keeps a resume exact.
    """
    passed = {
        name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR"}
    cuda = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    return passed | threads | quiet | cuda | {"PYTHONUNBUFFERED": "1"}


class ClientSettings(BaseSettings):
    """What the command line needs to find the service."""

    model_config = SettingsConfigDict(env_prefix="TRAINBOX_", frozen=True, extra="ignore")

    url: str = Field(default="http://127.0.0.1:8000", description="where the command line finds the service")
    token: str | None = Field(
        default=None, description="the token that the command line sends; unset: the file `admin.token`"
    )

"""The states of a job, and the only moves between them."""

from enum import Enum


class JobStatus(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})

MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset(
        {
            JobStatus.SUCCEEDED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
            JobStatus.PAUSED,
            JobStatus.QUEUED,  # its worker was lost, or drained, and attempts remain
        }
    ),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}


def sources(target: JobStatus) -> list[JobStatus]:
    """The states from which `target` can be reached in one move."""
    return [status for status, targets in MOVES.items() if target in targets]


class EndReason(Enum):
    """Why an attempt or a job did not succeed. The list is closed: users test for these words."""

    ERROR = "error"
    NON_FINITE = "non_finite"
    OOM_HOST = "oom_host"
    OOM_DEVICE = "oom_device"
    STALLED = "stalled"
    TIME_LIMIT = "time_limit"
    WORKER_LOST = "worker_lost"
    DISK_FULL = "disk_full"
    INPUT_CHANGED = "input_changed"


class StudyKind(Enum):
    """Which question a study asks."""

    GRID = "grid"
    SEARCH = "search"
    LR_RANGE = "lr_range"
    BATCH_SIZE = "batch_size"


class Scope(Enum):
    """What a token may do; each scope includes the ones before it."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def includes(self, other: "Scope") -> bool:
        order = list(Scope)
        return order.index(self) >= order.index(other)


class Visibility(Enum):
    TEAM = "team"
    PRIVATE = "private"


class Direction(Enum):
    """Which way a metric is better."""

    MIN = "min"
    MAX = "max"
    NONE = "none"

"""What is answered about jobs."""

from typing import Any

from pydantic import ConfigDict, Field

from service.api.views import View
from service.plan import Plan
from service.spec import JobSpec


class Reason(View):
    code: str
    message: str
    since: str


class Progress(View):
    step: int
    total_steps: int
    epoch: float
    samples: int
    samples_per_second: float | None
    eta_seconds: float | None


class JobError(View):
    code: str
    message: str
    exit_code: int | None
    signal: int | None


class Warn(View):
    code: str
    param: str
    message: str


class JobView(View):
    id: str
    object: str
    name: str
    project: str
    user: str
    status: str
    status_reason: Reason
    spec: JobSpec
    plan: Plan
    warnings: list[Warn]
    tags: dict[str, str]
    priority: int
    attempt: int
    progress: Progress | None
    retry_of: str | None
    study_id: str | None
    error: JobError | None
    created_at: str
    started_at: str | None
    finished_at: str | None


class Change(View):
    """One parameter of the copy that is not as in the original."""

    model_config = ConfigDict(populate_by_name=True)
    param: str
    before: Any = Field(alias="from")
    to: Any
    meaning: str


class ClonedJob(JobView):
    changes: list[Change]


class JobList(View):
    data: list[JobView]
    has_more: bool
    next_after: str | None


class Probe(View):
    """A few real steps: `seconds_per_step` is their median; memory is that of the whole process."""

    steps: int
    seconds_per_step: float
    validation_seconds: float
    estimated_seconds: float
    peak_memory_mib: float
    parameters: int


class DryRun(View):
    """What a submission would create; `probe` if one was asked for."""

    spec: JobSpec
    plan: Plan
    warnings: list[Warn]
    probe: Probe | None = None


class CloneDryRun(DryRun):
    """What a clone would create, and what each change means."""

    changes: list[Change]


class Cause(View):
    code: str
    message: str


class Explanation(View):
    """`position` counts from 1, in the order of expected starts; null for a job that does not wait."""

    position: int | None
    blocked_by: list[Cause]
    estimated_start_at: str | None
    basis: str
    would_start_now_if: list[str]

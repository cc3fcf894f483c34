"""What is answered about studies."""

from typing import Any

from pydantic import Field

from service.api.views import View
from service.api.views.jobs import Reason, Warn
from service.plan import Plan
from service.spec import JobSpec


class StudyJob(View):
    """A job of a study. `id` and `status` are null for one that was deleted or that could not be made."""

    id: str | None
    status: str | None
    parameters: dict[str, Any]
    seed: int
    stage: str = Field(description='"range_test" for the short runs of a study of batch sizes, else "runs"')
    error: str | None


class StudyHead(View):
    id: str
    object: str
    kind: str
    name: str
    project: str
    user: str
    status: str
    status_reason: Reason
    spec: dict[str, Any]
    progress: dict[str, int]
    created_at: str
    started_at: str | None
    finished_at: str | None


class StudyView(StudyHead):
    """`report` is null until a job is over. What it holds is told by the kind; `partial` is null at the end."""

    jobs: list[StudyJob]
    report: dict[str, Any] | None


class StudyList(View):
    data: list[StudyHead]
    has_more: bool
    next_after: str | None


class DraftedJob(View):
    name: str
    stage: str
    parameters: dict[str, Any]
    seed: int
    spec: JobSpec
    plan: Plan


class StudyDryRun(View):
    """What a study would create. Jobs that are chosen as it goes on are shown as the base has them."""

    kind: str
    spec: dict[str, Any]
    jobs: list[DraftedJob]
    total_jobs: int
    total_steps: int
    warnings: list[Warn]

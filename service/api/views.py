"""What answers look like, for the documentation and the test that holds answers against it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.plan import Plan
from service.spec import JobSpec


class View(BaseModel):
    model_config = ConfigDict(extra="forbid")


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


Number = float | str | None


class Metric(View):
    """A curve in a few numbers; NaN and infinities are the words "NaN", "Infinity" and "-Infinity"."""

    count: int
    first: Number
    last: Number
    last_step: int
    min: Number
    min_step: int | None
    max: Number
    max_step: int | None
    best: Number
    best_step: int | None
    direction: str


class RunView(View):
    id: str
    object: str
    job_id: str | None
    name: str
    project: str
    user: str
    status: str
    parameters: dict[str, Any]
    tags: dict[str, str]
    metrics: dict[str, Metric]
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration_seconds: float | None = Field(description="time spent training, without waiting")


class Doubt(View):
    """What keeps a run from coming out the same again, and the step that was known when it was noticed."""

    step: int
    message: str


class WholeRun(RunView):
    inexact: list[Doubt]


class RunList(View):
    data: list[RunView]
    has_more: bool
    next_after: str | None


class Points(View):
    """Columns of the same length. With fewer points than the curve has, each is a bucket: `y` is its mean."""

    x: list[Number]
    y: list[Number]
    step: list[int]
    min: list[Number]
    max: list[Number]


class PointsTaken(View):
    accepted: int = Field(description="the points of this request; all of them are on disk")


class CurveView(View):
    metric: str
    x: str
    count: int
    downsampled: bool
    points: Points


class CurveList(View):
    """One curve for each metric asked for. With one metric, the curve's fields stand beside `data` too."""

    model_config = ConfigDict(extra="allow")
    run_id: str
    data: list[CurveView]


class Summary(View):
    last: Number
    best: Number
    best_at: Number
    tail_mean: Number
    area: Number
    to_target: Number
    reached: dict[str, Number] | None = Field(description="where the target is reached, along every axis of the run")


class ComparedRun(View):
    run_id: str
    name: str
    parameters: dict[str, Any]
    curve: CurveView | None
    summary: Summary | None
    rank: int | None


class Note(View):
    code: str
    message: str


class BandView(View):
    """The mean of several runs on a common x, with the 95 % interval of that mean; null bounds for one run."""

    x: list[Number]
    mean: list[Number]
    lower: list[Number] | None
    upper: list[Number] | None
    method: str | None


class GroupSummary(View):
    """Means over the runs. `interval` and `deviation` are of their best values."""

    runs: int
    last: Number
    best: Number
    best_at: Number
    tail_mean: Number
    area: Number
    to_target: Number
    reached: int | None
    deviation: Number
    interval: tuple[Number, Number] | None
    method: str | None


class GroupView(View):
    key: Any
    run_ids: list[str]
    curve: BandView | None
    summary: GroupSummary
    rank: int | None


class VerdictView(View):
    """Whether `a` is better than `b`. `difference` is a minus b; `interval` holds the true one."""

    a: Any
    b: Any
    difference: Number
    interval: tuple[Number, Number] | None
    verdict: str
    basis: str
    more_seeds_needed: int | None


class ComparisonView(View):
    metric: str
    direction: str
    x: str
    group_by: str | None
    differing_parameters: list[str]
    runs: list[ComparedRun]
    groups: list[GroupView]
    verdicts: list[VerdictView]
    warnings: list[Note]


class FindingView(View):
    code: str
    severity: str
    from_step: int | None
    to_step: int | None
    evidence: dict[str, Any]
    explanation: str
    suggestion: str | None


class DiagnosisView(View):
    """The findings, the weightiest first; `verdict` is the code of the first."""

    run_id: str
    verdict: str
    findings: list[FindingView]


class DatasetVersion(View):
    """`shape` is that of one sample. `path` is of a registered file; `copied` says whether its arrays were copied."""

    version: int
    format: str
    kind: str
    task: str
    shape: list[int]
    rows: int
    validation_rows: int | None
    features: int = Field(description="how many columns there are besides the target")
    columns: list[dict[str, Any]] = Field(description="in lists, and among versions, the first 100, without values")
    target: str | None
    classes: list[dict[str, Any]] | None
    sha256: str
    bytes: int
    stored_bytes: int
    path: str | None
    copied: bool
    owner: str | None
    created_at: str


class DatasetView(DatasetVersion):
    """The newest version, and all versions."""

    name: str
    description: str
    versions: list[DatasetVersion] = []


class DatasetList(View):
    data: list[DatasetView]
    has_more: bool
    next_after: str | None


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
    """`report` is null until the study is over; what it holds is told by the kind."""

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

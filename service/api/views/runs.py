"""What is answered about runs, their curves and what these say."""

from typing import Any

from pydantic import ConfigDict, Field

from service.api.views import Number, View


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
    beside: list[int] = Field(description="places of single points that are shown beside buckets")
    points: Points


class CurveList(View):
    """One curve for each metric asked for. With one metric, the curve's fields stand beside `data` too."""

    model_config = ConfigDict(extra="allow")
    run_id: str
    data: list[CurveView]


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

"""What is answered about runs side by side."""

from typing import Any

from pydantic import Field

from service.api.views import Number, View
from service.api.views.runs import CurveView


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
    difference: Number | None
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

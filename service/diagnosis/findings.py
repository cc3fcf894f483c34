"""What a diagnosis says: a finding has its place in the curve, its numbers, its rule, and what to try."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Code(Enum):
    """The findings, the weightiest first: the verdict is the first one that was found."""

    DIVERGED = "diverged"
    TOO_SHORT_TO_TELL = "too_short_to_tell"
    LEARNING_RATE_TOO_HIGH = "learning_rate_too_high"
    LEARNING_RATE_TOO_LOW = "learning_rate_too_low"
    UNDERFITTING = "underfitting"
    OVERFITTING = "overfitting"
    LOSS_AND_METRIC_DISAGREE = "loss_and_metric_disagree"
    PLATEAUED = "plateaued"
    HEALTHY = "healthy"


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


SEVERITY = {
    Code.DIVERGED: Severity.ERROR,
    Code.LEARNING_RATE_TOO_HIGH: Severity.WARNING,
    Code.LEARNING_RATE_TOO_LOW: Severity.WARNING,
    Code.UNDERFITTING: Severity.WARNING,
    Code.OVERFITTING: Severity.WARNING,
    Code.TOO_SHORT_TO_TELL: Severity.INFO,
    Code.LOSS_AND_METRIC_DISAGREE: Severity.INFO,
    Code.PLATEAUED: Severity.INFO,
    Code.HEALTHY: Severity.INFO,
}


@dataclass(frozen=True)
class Finding:
    """One thing that the curves show, from a step to a step.

    evidence: the numbers that the rule looked at, and under `rule` the rule in words with its source.
    suggestion: what to try, in the units of the spec; None when there is nothing to change.
    """

    code: Code
    from_step: int | None
    to_step: int | None
    evidence: Mapping[str, Any]
    explanation: str
    suggestion: str | None

    @property
    def severity(self) -> Severity:
        return SEVERITY[self.code]

    def as_dict(self) -> dict[str, Any]:
        """Under the names of the contract."""
        return {
            "code": self.code.value,
            "severity": self.severity.value,
            "from_step": self.from_step,
            "to_step": self.to_step,
            "evidence": dict(self.evidence),
            "explanation": self.explanation,
            "suggestion": self.suggestion,
        }


@dataclass(frozen=True)
class Diagnosis:
    """The findings, the weightiest first; there is always one."""

    findings: list[Finding]

    @property
    def verdict(self) -> Code:
        return self.findings[0].code

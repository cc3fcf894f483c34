"""Early stopping: when a training that no longer improves is over. It knows no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

from service.curves import direction
from service.spec import EarlyStopping
from service.states import Direction


@dataclass
class Patience:
    """What the validations of a training have come to so far.

    best, best_step: of the last improvement. waited: validations since. step: of the validation that used the
    patience up, None before there is one.
    """

    terms: EarlyStopping
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    step: int | None = None

    def look(self, step: int, validation: Mapping[str, float]) -> None:
        """Takes in one validation. What is not a number is no improvement."""
        value = validation[self.terms.metric]
        if improves(self.terms.metric, value, self.best, self.terms.min_delta):
            self.best, self.best_step, self.waited = value, step, 0
            return
        self.waited += 1
        if self.waited >= self.terms.patience:
            self.step = step

    @property
    def over(self) -> bool:
        return self.step is not None

    def told(self) -> str:
        """Why the training ended."""
        best = (
            "was never a number"
            if self.best is None
            else f"has not improved on {self.best:.6g} of step {self.best_step}"
        )
        return f"stopped early after step {self.step}: {self.terms.metric} {best} for {self.waited} validations"

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited, "step": self.step}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_step = state["best"], state["best_step"]
        self.waited, self.step = state["waited"], state["step"]


def improves(metric: str, value: float, best: float | None, min_delta: float = 0.0) -> bool:
    """Whether a value of a metric is better than the best one so far by more than a difference; NaN never is."""
    if best is None:
        return not isnan(value)
    return value < best - min_delta if direction(metric) is Direction.MIN else value > best + min_delta

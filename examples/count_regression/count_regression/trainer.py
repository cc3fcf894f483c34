"""The task itself, which trainers import: the model gives the logarithm of a rate, and counts are Poisson around it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from service.spec import Hyperparameters
from workers.training.tasks import About, Answers, Given


@dataclass(frozen=True)
class CountRegression:
    """level: the logarithm of the training split's mean; it is added to outputs, so that a new model begins there."""

    level: float
    outputs: int = 1

    @classmethod
    def begin(cls, _: Hyperparameters, given: Given, /) -> tuple[Self, Tensor, Tensor]:
        """The targets are float32 of shape (n, 1). Raises ValueError when they are no counts."""
        both = np.concatenate([given.targets, given.validation_targets])
        if (both < 0).any() or (both % 1).any() or not given.targets.any():
            raise ValueError("counts are whole numbers from 0, and not all of them 0")
        task = cls(math.log(np.mean(given.targets, dtype=np.float64)))
        targets, validation_targets = (
            torch.from_numpy(np.array(each[:, None], np.float32)) for each in (given.targets, given.validation_targets)
        )
        return task, targets, validation_targets

    @property
    def kept(self) -> dict[str, Any]:
        return {"level": self.level}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.poisson_nll_loss(outputs + self.level, targets)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums of the deviance, absolute errors, y log y, y, and how many those are: shape (5,)."""
        logarithms, counts = outputs.double() + self.level, targets.double()
        rates, entropy = logarithms.exp(), torch.xlogy(counts, counts)
        deviance = 2 * (entropy - counts * logarithms - counts + rates)
        sums = [deviance, (rates - counts).abs(), entropy, counts, torch.ones_like(counts)]
        return torch.stack([each.sum() for each in sums])

    def scores(self, tally: Sequence[float]) -> dict[str, float]:
        """The mean deviance, the share of it that is explained beyond the mean count, and the mean absolute error."""
        deviance, absolute, entropy, total, samples = tally
        of_the_mean = 2 * (entropy - total * math.log(total / samples)) if total else 0.0
        explained = 1 - deviance / of_the_mean if of_the_mean > 0 else float(deviance == 0)
        return {"val_deviance": deviance / samples, "val_d2": explained, "val_mae": absolute / samples}

    @staticmethod
    def answers(outputs: Tensor, about: About, /) -> Answers:
        assert about.kept is not None
        return [{"value": rate} for rate in (outputs[:, 0] + about.kept["level"]).exp().tolist()]

"""The tasks: what the targets are, which loss is minimised, and how well a model does on rows it has not seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from service.spec import GptModel, Hyperparameters, JobSpec
from workers.training.data import Rows, standardise
from workers.training.models import BYTES

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Classification:
    """One of several classes. With bce there are two, and one output: the logit of the second."""

    METRICS: ClassVar = ("val_accuracy", "val_recall", "val_precision", "val_f1")

    classes: int
    outputs: int
    loss: Loss

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Counts that add up over batches: rightly predicted, predicted and present, by class. Shape (3 * classes,)."""
        if self.outputs == 1:
            predicted, present = (outputs[:, 0] > 0).long(), targets[:, 0].long()
        else:
            predicted, present = outputs.argmax(dim=1), targets
        # Those predicted wrongly are counted as a class of their own, which is left out.
        right = torch.where(predicted == present, present, self.classes)
        counts = [torch.bincount(labels, minlength=self.classes + 1) for labels in (right, predicted, present)]
        return torch.cat([count[: self.classes] for count in counts])

    def scores(self, tally: Sequence[float], samples: int) -> dict[str, float]:
        """Accuracy, and recall, precision and F1 averaged over all classes alike; nothing of nothing counts 0."""
        right, predicted, present = np.asarray(tally).reshape(3, self.classes)
        return {
            "val_accuracy": float(right.sum() / samples),
            "val_recall": float((right / np.maximum(present, 1)).mean()),
            "val_precision": float((right / np.maximum(predicted, 1)).mean()),
            "val_f1": float((2 * right / np.maximum(predicted + present, 1)).mean()),
        }


@dataclass(frozen=True)
class Regression:
    """A number. Training sees targets in standard deviations from their mean, and so do the losses.

    mean, unit: of the training targets, the unit being their standard deviation. spread: the sum of squares of the
    validation targets about their own mean, in standardised units.
    """

    METRICS: ClassVar = ("val_mae", "val_r2")

    mean: float
    unit: float
    spread: float
    loss: Loss
    outputs: int = 1

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums that add up over batches: of absolute and of squared errors. Shape (2,)."""
        errors = outputs.double() - targets
        return torch.stack([errors.abs().sum(), errors.square().sum()])

    def scores(self, tally: Sequence[float], samples: int) -> dict[str, float]:
        """The mean absolute error in the target's own unit, and the share of the variance that is explained.

        Where the validation targets are all the same, that share is 1 when they are met exactly and 0 otherwise.
        """
        absolute, squared = tally
        explained = 1 - squared / self.spread if self.spread else float(squared == 0)
        return {"val_mae": absolute / samples * self.unit, "val_r2": explained}


@dataclass(frozen=True)
class LanguageModeling:
    """The next byte of a text, at each place of a window. outputs: a logit for each byte that there is."""

    METRICS: ClassVar = ("val_perplexity",)

    context: int
    label_smoothing: float
    outputs: int = BYTES

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """outputs: shape (n, length, 256). targets: the bytes that follow, shape (n, length)."""
        logits, following = outputs.flatten(0, 1), targets.flatten().long()
        return functional.cross_entropy(logits, following, label_smoothing=self.label_smoothing)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The surprise over all bytes, which adds up over batches: shape (1,)."""
        logits, following = outputs.flatten(0, 1).float(), targets.flatten().long()
        return functional.cross_entropy(logits, following, reduction="none").double().sum()[None]

    def scores(self, tally: Sequence[float], samples: int) -> dict[str, float]:
        """The perplexity of a byte: 256 for a model that knows nothing, 1 for one that knows all."""
        with np.errstate(over="ignore"):
            return {"val_perplexity": float(np.exp(tally[0] / (samples * self.context)))}


Task = Classification | Regression | LanguageModeling


def make(spec: JobSpec, rows: Rows, classes: int | None) -> tuple[Task, Tensor, Tensor]:
    """(task, targets, validation_targets): the targets as the task's loss takes them.

    classes: how many there are, for classification. Raises ValueError when the loss does not fit them.
    """
    match spec.task:
        case "classification":
            return _classification(spec.hyperparameters, rows, classes or 0)
        case "regression":
            return _regression(spec.hyperparameters, rows)
        case "language_modeling":
            assert isinstance(spec.model, GptModel)
            task = LanguageModeling(spec.model.context, spec.hyperparameters.label_smoothing)
            return task, torch.from_numpy(rows.targets), torch.from_numpy(rows.validation_targets)


def _classification(chosen: Hyperparameters, rows: Rows, classes: int) -> tuple[Task, Tensor, Tensor]:
    targets, validation_targets = torch.from_numpy(rows.targets), torch.from_numpy(rows.validation_targets)
    if chosen.loss != "bce":
        loss = partial(functional.cross_entropy, label_smoothing=chosen.label_smoothing)
        return Classification(classes, classes, loss), targets, validation_targets
    if classes != 2:
        raise ValueError(f"bce is for two classes and the data set has {classes}")
    task = Classification(classes, 1, functional.binary_cross_entropy_with_logits)
    return task, targets[:, None].float(), validation_targets[:, None].float()


def _regression(chosen: Hyperparameters, rows: Rows) -> tuple[Task, Tensor, Tensor]:
    losses: dict[str, Loss] = {"mse": functional.mse_loss, "l1": functional.l1_loss, "huber": functional.huber_loss}
    columns = [np.array(values[:, None], np.float32) for values in (rows.targets, rows.validation_targets)]
    targets, validation_targets = columns
    mean, unit = standardise(targets, validation_targets)
    varies = len(validation_targets) > 0 and validation_targets.min() < validation_targets.max()
    spread = float(np.var(validation_targets, dtype=np.float64)) * len(validation_targets) if varies else 0.0
    task = Regression(float(mean[0]), float(unit[0]), spread, losses[chosen.loss or "mse"])
    return task, torch.from_numpy(targets), torch.from_numpy(validation_targets)

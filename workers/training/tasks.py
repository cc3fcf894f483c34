"""The tasks as trainers see them: what the targets are, which loss is minimised, and how well a model does on rows that
it has not seen. `service.tasks` declares them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pkgutil import resolve_name
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from service.spec import Hyperparameters
from service.tasks import TASKS
from workers.training.data import standardise
from workers.training.models import BYTES

Loss = Callable[[Tensor, Tensor], Tensor]
Answers = list[dict[str, Any]]

LOSSES: dict[str, Loss] = {"mse": functional.mse_loss, "l1": functional.l1_loss, "huber": functional.huber_loss}


class Given(NamedTuple):
    """What a task begins from.

    targets, validation_targets: of the two splits, shape (n,) each: int64 classes counted from 0, or float32 numbers;
    of a text its bytes. classes: how many there are, None where the targets are no classes.
    """

    targets: NDArray[Any]
    validation_targets: NDArray[Any]
    classes: int | None


class About(NamedTuple):
    """What is known of the targets when answers are given. kept: the task's. classes: their names, if there are any."""

    kept: dict[str, Any] | None
    classes: Sequence[Any] | None


class Task(Protocol):
    """What a training asks of its task. It never changes: what a resumed training begins from is the same again.

    outputs: of the model for a sample. kept: what turns outputs into answers, as JSON, or None; it is kept with the
    weights.
    """

    @property
    def outputs(self) -> int: ...

    @property
    def kept(self) -> dict[str, Any] | None: ...

    @classmethod
    def begin(cls, chosen: Hyperparameters, given: Given, /) -> tuple[Self, Tensor, Tensor]:
        """The task and the targets of the two splits as its loss takes them, n in the first dimension.

        Raises ValueError when the targets do not fit: the job then fails with its sentence.
        """
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over a batch, shape (). outputs: shape (batch, outputs), of a text (batch, length, outputs)."""
        ...

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums over a batch of the validation split that add up over batches, shape (k,)."""
        ...

    def scores(self, tally: Sequence[float]) -> dict[str, float]:
        """The metrics that the task is declared with, from the sums over the whole validation split."""
        ...

    @staticmethod
    def answers(outputs: Tensor, about: About, /) -> Answers:
        """What `POST /v1/jobs/{id}/predictions` says of each sample."""
        ...


def named(name: str) -> type[Task]:
    """The class of a declared task."""
    found: type[Task] = resolve_name(TASKS[name].trainer)
    return found


@dataclass(frozen=True)
class Classification:
    """One of several classes. With bce there are two, and one output: the logit of the second."""

    classes: int
    outputs: int
    loss: Loss
    kept: None = None

    @classmethod
    def begin(cls, chosen: Hyperparameters, given: Given) -> tuple[Self, Tensor, Tensor]:
        targets, validation_targets = torch.from_numpy(given.targets), torch.from_numpy(given.validation_targets)
        classes = given.classes or 0
        if chosen.loss != "bce":
            loss = partial(functional.cross_entropy, label_smoothing=chosen.label_smoothing)
            return cls(classes, classes, loss), targets, validation_targets
        if classes != 2:
            raise ValueError(f"bce is for two classes and the data set has {classes}")
        task = cls(classes, 1, functional.binary_cross_entropy_with_logits)
        return task, targets[:, None].float(), validation_targets[:, None].float()

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Counts of those rightly predicted, predicted and present, by class. Shape (3 * classes,)."""
        if self.outputs == 1:
            predicted, present = (outputs[:, 0] > 0).long(), targets[:, 0].long()
        else:
            predicted, present = outputs.argmax(dim=1), targets
        # Those predicted wrongly are counted as a class of their own, which is left out.
        right = torch.where(predicted == present, present, self.classes)
        counts = [torch.bincount(labels, minlength=self.classes + 1) for labels in (right, predicted, present)]
        return torch.cat([count[: self.classes] for count in counts])

    def scores(self, tally: Sequence[float]) -> dict[str, float]:
        """Accuracy, and recall, precision and F1 averaged over the classes that are present or predicted, all alike."""
        right, predicted, present = np.asarray(tally).reshape(3, self.classes)
        right, predicted, present = (each[predicted + present > 0] for each in (right, predicted, present))
        return {
            "val_accuracy": float(right.sum() / present.sum()),
            "val_recall": float((right / np.maximum(present, 1)).mean()),
            "val_precision": float((right / np.maximum(predicted, 1)).mean()),
            "val_f1": float((2 * right / (predicted + present)).mean()),
        }

    @staticmethod
    def answers(outputs: Tensor, about: About, /) -> Answers:
        second = outputs.sigmoid()
        chances = outputs.softmax(dim=1) if outputs.shape[1] > 1 else torch.cat([1 - second, second], dim=1)
        return [_likeliest(probabilities, about.classes) for probabilities in chances.tolist()]


def _likeliest(probabilities: list[float], classes: Sequence[Any] | None) -> dict[str, Any]:
    best = int(np.argmax(probabilities))
    name = classes[best] if classes is not None else best
    return {"class": name, "value": best, "probability": probabilities[best], "probabilities": probabilities}


@dataclass(frozen=True)
class Regression:
    """A number. Training sees targets in standard deviations from their mean, and so do the losses.

    mean, unit: of the training targets, the unit being their standard deviation. spread: the sum of squares of the
    validation targets about their own mean, in standardised units.
    """

    mean: float
    unit: float
    spread: float
    loss: Loss
    outputs: int = 1

    @classmethod
    def begin(cls, chosen: Hyperparameters, given: Given) -> tuple[Self, Tensor, Tensor]:
        columns = [np.array(values[:, None], np.float32) for values in (given.targets, given.validation_targets)]
        targets, validation_targets = columns
        mean, unit = standardise(targets, validation_targets)
        varies = len(validation_targets) > 0 and validation_targets.min() < validation_targets.max()
        spread = float(np.var(validation_targets, dtype=np.float64)) * len(validation_targets) if varies else 0.0
        task = cls(float(mean[0]), float(unit[0]), spread, LOSSES[chosen.loss or "mse"])
        return task, torch.from_numpy(targets), torch.from_numpy(validation_targets)

    @property
    def kept(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.unit}

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums of absolute and of squared errors, and how many those are. Shape (3,)."""
        errors = outputs.double() - targets
        return torch.stack([errors.abs().sum(), errors.square().sum(), torch.ones_like(errors).sum()])

    def scores(self, tally: Sequence[float]) -> dict[str, float]:
        """The mean absolute error in the target's own unit, and the share of the variance that is explained.

        Where the validation targets are all the same, that share is 1 when they are met exactly and 0 otherwise.
        """
        absolute, squared, samples = tally
        explained = 1 - squared / self.spread if self.spread else float(squared == 0)
        return {"val_mae": absolute / samples * self.unit, "val_r2": explained}

    @staticmethod
    def answers(outputs: Tensor, about: About, /) -> Answers:
        assert about.kept is not None
        mean, unit = about.kept["mean"], about.kept["deviation"]
        return [{"value": value * unit + mean} for value in outputs[:, 0].tolist()]


@dataclass(frozen=True)
class LanguageModeling:
    """The next byte of a text, at each place of a window. outputs: a logit for each byte that there is."""

    LIKELIEST = 5

    label_smoothing: float
    outputs: int = BYTES
    kept: None = None

    @classmethod
    def begin(cls, chosen: Hyperparameters, given: Given) -> tuple[Self, Tensor, Tensor]:
        targets, validation_targets = torch.from_numpy(given.targets), torch.from_numpy(given.validation_targets)
        return cls(chosen.label_smoothing), targets, validation_targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """outputs: shape (n, length, 256). targets: the bytes that follow, shape (n, length)."""
        logits, following = outputs.flatten(0, 1), targets.flatten().long()
        return functional.cross_entropy(logits, following, label_smoothing=self.label_smoothing)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The surprise over all bytes, and how many those are: shape (2,)."""
        logits, following = outputs.flatten(0, 1).float(), targets.flatten().long()
        surprise = functional.cross_entropy(logits, following, reduction="none").double().sum()
        return torch.stack([surprise, torch.ones_like(following).sum().double()])

    def scores(self, tally: Sequence[float]) -> dict[str, float]:
        """The perplexity of a byte: 256 for a model that knows nothing, 1 for one that knows all."""
        surprise, count = tally
        with np.errstate(over="ignore"):
            return {"val_perplexity": float(np.exp(surprise / count))}

    @staticmethod
    def answers(outputs: Tensor, _: About, /) -> Answers:
        """The bytes that are likeliest to come next, for the logits of one place each: shape (n, 256)."""
        chances, likeliest = outputs.softmax(dim=1).topk(LanguageModeling.LIKELIEST)
        return [
            {"next": [{"byte": byte, "probability": chance} for byte, chance in zip(*pair, strict=True)]}
            for pair in zip(likeliest.tolist(), chances.tolist(), strict=True)
        ]

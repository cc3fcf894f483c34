"""The work on which training loops are compared, and the loops that an engineer writes when nothing is to be kept.

One thread, Adam: an MLP 64-128-10 on the digits, a small residual network on images of 16 x 16, a small transformer on
text. A fifth of the samples is held back, and judged after each epoch and after the last step.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from service.spec import CnnModel, GptModel
from workers.training import models

Arrays = dict[str, NDArray[Any]]


class Samples(NamedTuple):
    """Both splits as a script would lay them out before its loop: numbers standardised, bytes as indices.

    Images are as they are stored, in a quarter of the memory that they would take as floats.
    """

    x: Tensor
    y: Tensor
    x_held_back: Tensor
    y_held_back: Tensor


Batches = Callable[[Samples, int], Iterable[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Case:
    """One kind of work. arrays: as a data set stores them. model: what a script would build."""

    name: str
    goal: float
    steps: int
    batch: int
    rounds: int
    task: str
    spec: dict[str, Any]
    rows: int
    arrays: Arrays
    model: Callable[[], nn.Module]


def cases() -> list[Case]:
    digits, chance = load_digits(), np.random.default_rng(0)
    table: Arrays = {"x": digits.data.astype(np.float32), "y": digits.target.astype(np.int64)}
    images: Arrays = {"x": chance.integers(0, 256, (512, 3, 16, 16), dtype=np.uint8), "y": chance.integers(0, 10, 512)}
    text: Arrays = {"text": chance.integers(0, 256, 32 * 512 + 1, dtype=np.uint8)}
    mlp = {"type": "mlp", "hidden_sizes": [128]}
    cnn, gpt = CnnModel(width=8), GptModel(layers=2, heads=2, width=64, context=32)
    seen = Standardised(images["x"])

    def build_cnn() -> nn.Module:
        return nn.Sequential(seen, models.build(cnn, (3,), 10))

    def build_gpt() -> nn.Module:
        return models.build(gpt, (), 256)

    size = len(text["text"])
    return [
        Case("mlp", 0.95, 5000, 64, 16, "classification", mlp, len(table["x"]), table, perceptron),
        Case("cnn", 0.98, 780, 32, 8, "classification", cnn.model_dump(), len(images["x"]), images, build_cnn),
        Case("gpt", 0.98, 260, 32, 8, "language_modeling", gpt.model_dump(), size, text, build_gpt),
    ]


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


class Standardised(nn.Module):
    """Images without the mean and the deviation of each channel, batch by batch: what scripts call normalising."""

    def __init__(self, images: NDArray[Any]) -> None:
        super().__init__()
        self.mean = torch.tensor(images.mean(axis=(0, 2, 3)), dtype=torch.float32)[:, None, None]
        self.deviation = torch.tensor(images.std(axis=(0, 2, 3)), dtype=torch.float32)[:, None, None]

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) / self.deviation


def beforehand(case: Case, samples: Samples) -> tuple[Case, Samples] | None:
    """The work with images that are standardised before the loop, and kept as floats; None where there are none."""
    model = case.model()
    if not isinstance(model, nn.Sequential) or not isinstance(model[0], Standardised):
        return None
    x, x_held_back = model[0](samples.x), model[0](samples.x_held_back)
    ready = samples._replace(x=x, x_held_back=x_held_back)
    return replace(case, model=lambda: case.model()[1]), ready  # type: ignore[index]


def train(case: Case, steps: int, samples: Samples, batches: Batches) -> None:
    """A bare loop over so many steps; nothing is recorded and nothing kept."""
    torch.use_deterministic_algorithms(False)  # as in a fresh process
    torch.manual_seed(0)
    model = case.model()
    optimizer = torch.optim.Adam(model.parameters())
    step = 0
    while step < steps:
        for x, y in batches(samples, case.batch):
            loss = loss_of(model, x, y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if step == steps:
                break
        judge(model, samples.x_held_back, samples.y_held_back)


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(x).flatten(0, -2), y.flatten())


def indexed(samples: Samples, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch, taken out of tensors in memory."""
    order = torch.randperm(len(samples.x))
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        yield samples.x[batch], samples.y[batch]


def loaded(samples: Samples, size: int) -> Iterable[tuple[Tensor, Tensor]]:
    """The same by PyTorch's loader."""
    return DataLoader(TensorDataset(samples.x, samples.y), size, shuffle=True)


@torch.no_grad()
def judge(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """What trainers measure: the loss and, of classes, accuracy and the averages over classes, of a text perplexity."""
    model.eval()
    outputs = model(x)
    loss = nn.functional.cross_entropy(outputs.flatten(0, -2), y.flatten())
    model.train()
    if y.ndim > 1:
        return {"loss": loss.item(), "perplexity": loss.exp().item()}
    classes = outputs.shape[1]
    table = torch.bincount(y * classes + outputs.argmax(dim=1), minlength=classes**2).view(classes, classes).double()
    right, present, predicted = table.diagonal(), table.sum(dim=1).clamp(min=1), table.sum(dim=0).clamp(min=1)
    return {
        "loss": loss.item(),
        "accuracy": (right.sum() / len(y)).item(),
        "recall": (right / present).mean().item(),
        "precision": (right / predicted).mean().item(),
        "f1": (2 * right / (present + predicted)).mean().item(),
    }

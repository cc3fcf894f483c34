"""The weights of a model as a safetensors file that another program can use: it says itself what the model is.

The file's metadata has one entry of our own, `trainbox`: JSON of the spec, the step, the shape of a sample, the number
of outputs, and what the preprocessing took from the training split.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as packed
from torch import Tensor, nn

from service.spec import JobSpec
from workers.checkpoints import Digesting
from workers.training import models
from workers.training.preparation import Training

Tensors = dict[str, Tensor]
OURS = "trainbox"


def copied(training: Training) -> Tensors:
    """The weights as they are now, in main memory, each laid out in the order of its dimensions."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in training.model.state_dict().items()
    }


def described(training: Training, step: int) -> dict[str, Any]:
    """What another program needs to know of the weights after a step."""
    return {
        "spec": training.spec.model_dump(mode="json"),
        "step": step,
        "shape": list(training.train.inputs.shape[1:]),
        "outputs": training.task.outputs,
        "preprocessing": training.preprocessing,
        "target": training.task.kept,
    }


def save(tensors: Tensors, description: dict[str, Any], file: Digesting) -> None:
    """Raises OSError."""
    file.write(packed(tensors, {"format": "pt", OURS: json.dumps(description)}))


def read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """(weights, description). Nothing in the file is executed. Raises OSError, or what safetensors does for another."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[OURS])  # noqa: SIM118


@dataclass(frozen=True)
class Trained:
    """A model with its weights, ready to predict on the CPU."""

    spec: JobSpec
    model: nn.Module
    description: dict[str, Any]


def load(path: Path) -> Trained:
    """The model that a file of weights holds."""
    tensors, description = read(path)
    spec = JobSpec.model_validate(description["spec"])
    shape = description["shape"]
    images = description["preprocessing"]["kind"] == "images"
    unknown = torch.zeros(shape[0]) if images else None
    model = models.whole(spec.model, shape, description["outputs"], unknown, unknown)
    model.load_state_dict(tensors)
    return Trained(spec, model.eval(), description)

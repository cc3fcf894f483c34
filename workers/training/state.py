"""The whole state of a training after a step: what it takes to go on as if nothing had happened."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.checkpoints import WEIGHTS
from workers.checkpoints import STATE, Digesting
from workers.training import chance, data, weights
from workers.training.data import InputChanged
from workers.training.preparation import Training

State = dict[str, Any]


def capture(training: Training, step: int, dataset_sha256: str, best: dict[str, Any] | None = None) -> State:
    """A copy of the state as it is now, in main memory, but for the weights.

    best: of the validations so far, for `keeper`.

    The learning rate and the order of the samples are functions of the step and the seed, and need no saving.
    """
    chances = training.crew.chances(training.device)
    return {
        "step": step,
        "dataset_sha256": dataset_sha256,
        "surroundings": surroundings(training),
        "optimizer": _optimizer(training),
        "scaler": training.scaler.state_dict(),
        "best": best,
        "patience": training.patience.state() if training.patience is not None else None,
        "chance": chances[0],
        "other_chances": chances[1:],
    }


def _optimizer(training: Training) -> State:
    found = training.optimizer.state_dict()
    copies = {
        place: {name: value.to("cpu", copy=True) if isinstance(value, Tensor) else value for name, value in own.items()}
        for place, own in found["state"].items()
    }
    return {"state": copies, "param_groups": found["param_groups"]}


def save(state: State, file: Digesting) -> None:
    """Raises OSError, or RuntimeError when PyTorch wraps one."""
    torch.save(state, file)  # type: ignore[arg-type]


def load(folder: Path) -> State:
    """Reads a checkpoint, its weights included, into main memory. Nothing in the files is executed."""
    state: State = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    state["model"], _ = weights.read(folder / WEIGHTS)
    return state


def restore(training: Training, state: State, dataset_sha256: str, rank: int = 0) -> list[str]:
    """Puts a training, which keeps the tensors of `state`, where the state was taken: sentences on what is not as then.

    rank: of this process among those that train together. Raises InputChanged, and whatever PyTorch does for a state of
    another training: that one is then of no more use.
    """
    if state["dataset_sha256"] != dataset_sha256:
        raise InputChanged("the checkpoint is of another data set")
    training.model.load_state_dict(state["model"])
    training.optimizer.load_state_dict(state["optimizer"])
    training.scaler.load_state_dict(state["scaler"])
    if training.patience is not None:
        training.patience.restore(state["patience"])
    chances = [state["chance"], *state.get("other_chances", [])]
    if rank < len(chances):
        chance.put_back(training.device, chances[rank])
    else:
        torch.manual_seed(data.apart(training.spec.hyperparameters.seed, rank, state["step"]))
    now = surroundings(training)
    return [
        f"{name} is {now[name]} and was {then}" for name, then in state["surroundings"].items() if now[name] != then
    ]


def surroundings(training: Training) -> dict[str, str]:
    """What the bits of a loss depend on besides the state."""
    device = training.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "torch": str(torch.__version__),
        "device": f"{device.type} {name}",
        "threads": str(torch.get_num_threads()),
        "micro_batches": str(training.micro_batches),
        "processes": str(training.plan.processes),
        # Both depend on the generators of numpy, whose streams may change from version to version.
        "numpy": np.__version__,
        "split": training.preprocessing["split"].get("sha256", "the data set's own"),
    }

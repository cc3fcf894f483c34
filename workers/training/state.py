"""The whole state of a training after a step: what it takes to go on as if nothing had happened."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from service.checkpoints import WEIGHTS
from workers.checkpoints import STATE, Digesting
from workers.training import weights
from workers.training.data import InputChanged
from workers.training.loop import Training

State = dict[str, Any]


def capture(training: Training, step: int, dataset_sha256: str, best: dict[str, Any] | None = None) -> State:
    """The state as it is now, but for the weights. It shares its tensors with the training: it is written before the
    next step. best: of the validations so far, for `keeper`.

    The learning rate and the order of the samples are functions of the step and the seed, and need no saving.
    """
    return {
        "step": step,
        "dataset_sha256": dataset_sha256,
        "surroundings": surroundings(training),
        "optimizer": training.optimizer.state_dict(),
        "scaler": training.scaler.state_dict(),
        "best": best,
        "patience": training.patience.state() if training.patience is not None else None,
        "chance": _chance(training),
    }


def save(state: State, file: Digesting) -> None:
    """Raises OSError, or RuntimeError when PyTorch wraps one."""
    torch.save(state, file)  # type: ignore[arg-type]


def load(folder: Path) -> State:
    """Reads a checkpoint, its weights included, into main memory. Nothing in the files is executed."""
    state: State = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    state["model"], _ = weights.read(folder / WEIGHTS)
    return state


def restore(training: Training, state: State, dataset_sha256: str) -> list[str]:
    """Puts a training, which keeps the tensors of `state`, where the state was taken: sentences on what is not as then.

    Raises InputChanged, and whatever PyTorch does for a state of another training: that one is then of no more use.
    """
    if state["dataset_sha256"] != dataset_sha256:
        raise InputChanged("the checkpoint is of another data set")
    training.model.load_state_dict(state["model"])
    training.optimizer.load_state_dict(state["optimizer"])
    training.scaler.load_state_dict(state["scaler"])
    if training.patience is not None:
        training.patience.restore(state["patience"])
    _set_chance(training, state["chance"])
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
        # Both depend on the generators of numpy, whose streams may change from version to version.
        "numpy": np.__version__,
        "split": training.preprocessing["split"].get("sha256", "the data set's own"),
    }


def _chance(training: Training) -> State:
    """The generators of random numbers, numpy's and Python's as lists: `weights_only` reads no others."""
    numpy = np.random.get_state(legacy=False)
    assert isinstance(numpy, dict)
    inner = {"key": numpy["state"]["key"].tolist(), "pos": int(numpy["state"]["pos"])}
    version, words, gauss = random.getstate()
    device = training.device
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": {**numpy, "state": inner, "gauss": float(numpy["gauss"])},
        "python": [version, list(words), gauss],
    }


def _set_chance(training: Training, saved: State) -> None:
    device = training.device
    torch.set_rng_state(saved["torch"])
    if device.type == "cuda" and saved["device"] is not None:
        torch.cuda.set_rng_state(saved["device"], device)
    inner = saved["numpy"]["state"]
    np.random.set_state(saved["numpy"] | {"state": inner | {"key": np.array(inner["key"], np.uint32)}})
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))

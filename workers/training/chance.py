"""The generators of random numbers of one process: as they are, and as they were."""

import random
from typing import Any

import numpy as np
import torch

Chance = dict[str, Any]


def taken(device: torch.device) -> Chance:
    """Their states, numpy's and Python's as lists: `weights_only` reads no others."""
    numpy = np.random.get_state(legacy=False)
    assert isinstance(numpy, dict)
    inner = {"key": numpy["state"]["key"].tolist(), "pos": int(numpy["state"]["pos"])}
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": {**numpy, "state": inner, "gauss": float(numpy["gauss"])},
        "python": [version, list(words), gauss],
    }


def put_back(device: torch.device, saved: Chance) -> None:
    torch.set_rng_state(saved["torch"])
    if device.type == "cuda" and saved["device"] is not None:
        torch.cuda.set_rng_state(saved["device"], device)
    inner = saved["numpy"]["state"]
    np.random.set_state(saved["numpy"] | {"state": inner | {"key": np.array(inner["key"], np.uint32)}})
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))

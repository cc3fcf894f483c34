"""Large data prepared once for all trainers of the same data: one of them writes it down, and each maps that file.

Otherwise each would hold a copy of its own: the training split, gathered and standardised. What is mapped is in memory
once, and whoever writes into it writes into a copy of that page. The bits are those that `data.load` gives.
"""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import service
from service import clock
from service.datasets import arrays, prepared
from service.plan import Plan
from workers.training import data
from workers.training.data import Look, Rows

SMALLEST = 16 << 20  # bytes of a data set: below, its trainers are ready sooner than a file is written
MOST_OF_DISK = 0.25  # of what is free
NAMES = ("inputs", "targets", "validation_inputs", "validation_targets")
ABOUT = "about.json"


def load(directory: Path | str, data_sha256: str, plan: Plan, seed: int, look: Look) -> Rows:
    """See `data.load`. data_sha256: of the data set as it has just been found."""
    folder = Path(directory)
    stored = [array for name in ("x", "text") if (array := arrays.load(folder, name)) is not None]
    if sum(array.nbytes for array in stored) < SMALLEST:
        return data.load(folder, plan, seed, look)
    place = folder / prepared.FOLDER / _key(folder, data_sha256, plan, seed, look)
    try:
        if not prepared.used(place):
            prepared.sweep(folder)
            with prepared.making(place) as draft:
                if not place.exists():
                    rows = data.load(folder, plan, seed, look)
                    if not _write(draft, rows) or arrays.digest(folder) != data_sha256:
                        shutil.rmtree(draft)
                        return rows
                    del rows
            prepared.used(place)
        return _read(place)
    except (OSError, ValueError):  # no room, or not to be written to: as if nobody shared
        return data.load(folder, plan, seed, look)


def _key(folder: Path, data_sha256: str, plan: Plan, seed: int, look: Look) -> str:
    """A name for what these give. A reboot or another version may have left what is not whole, or not the same."""
    # Where the split is given, by the data or by the end of the text, chance has no part in it.
    its_own = all(arrays.load(folder, name) is not None for name in ("x_val", "y_val"))
    chance = None if its_own or arrays.load(folder, "text") is not None else seed
    made_by = clock.boot_id(), service.__version__, np.__version__
    split = plan.train_samples, plan.validation_samples, chance, look.stratified
    told = made_by, data_sha256, split, look.context, look.columns, look.missing
    return sha256(json.dumps(told).encode()).hexdigest()[:32]


def _write(draft: Path, rows: Rows) -> bool:
    """Whether there was room."""
    parts: dict[str, NDArray[Any]] = {name: getattr(rows, name) for name in NAMES}
    if rows.channels is not None:
        parts |= {"mean": rows.channels[0], "deviation": rows.channels[1]}
    # Inputs and targets of a text are the same bytes, and stay so.
    files = {name: next(first for first, array in parts.items() if array is parts[name]) for name in parts}
    size = sum(parts[name].nbytes for name in set(files.values()))
    if size > MOST_OF_DISK * shutil.disk_usage(draft).free:
        return False
    for name in set(files.values()):
        np.save(draft / f"{name}.npy", parts[name], allow_pickle=False)
    (draft / ABOUT).write_text(json.dumps({"files": files, "preprocessing": rows.preprocessing}))
    return True


def _read(place: Path) -> Rows:
    about = json.loads((place / ABOUT).read_text())
    files = {
        name: np.load(place / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in set(about["files"].values())
    }
    parts = {name: files[file] for name, file in about["files"].items()}
    channels = (np.array(parts["mean"]), np.array(parts["deviation"])) if "mean" in parts else None
    return Rows(**{name: parts[name] for name in NAMES}, preprocessing=about["preprocessing"], channels=channels)

"""Large data that trainers share: the same numbers, nobody else's changes, and gone when nobody uses it.

That it is in memory once is shown in test_study_reports, by the trainers of a study.
"""

import os
from collections.abc import Callable
from fcntl import LOCK_SH, flock
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shelves import Shelf, images, stored, text

from service.datasets import arrays, prepared
from service.spec import GptModel
from workers.training import data, shared
from workers.training.data import Look, Rows

COLUMNS: list[dict[str, Any]] = [
    {"name": "shape", "values": ["a", "b", "c"]},
    *({"name": f"x{at}"} for at in range(1, 64)),
]


def table(folder: Path, **more: Any) -> Shelf:
    """17 MiB, with a category and empty cells."""
    chance = np.random.default_rng(0)
    x = chance.standard_normal((70_000, 64), np.float32)
    x[:, 0] = chance.integers(0, 3, len(x))
    x[::7, 5] = np.nan
    return Shelf(stored(folder, x=x, y=chance.integers(0, 4, len(x)), **more), "classification", len(x), classes=4)


def with_its_own_validation(folder: Path) -> Shelf:
    x, y = np.ones((1000, 64), np.float32), np.arange(1000) % 4
    shelf = table(folder, x_val=x, y_val=y)
    return Shelf(shelf.folder, shelf.task, shelf.rows, shelf.classes, validation_rows=1000)


MADE: dict[str, Callable[[Path], Shelf]] = {
    "table": table,
    "own_validation": with_its_own_validation,
    "images": lambda folder: images(folder, rows=160_000, channels=3),
    "text": lambda folder: text(folder, b"to share or not to share " * 700_000),
}


def look(shelf: Shelf) -> Look:
    context = GptModel().context if shelf.task == "language_modeling" else None
    tabular = (shelf.folder / "x.npy").exists() and np.load(shelf.folder / "x.npy", mmap_mode="r").ndim == 2
    return Look(shelf.task == "classification", context, COLUMNS if tabular else None, "mean", shelf.folder)


def loaded(shelf: Shelf, seed: int = 0, digest: str | None = None) -> Rows:
    found = digest or arrays.digest(shelf.folder)
    return shared.load(shelf.folder, found, shelf.plan(shelf.spec()), seed, look(shelf))


def places(shelf: Shelf) -> list[Path]:
    folder = shelf.folder / prepared.FOLDER
    return [place for place in folder.iterdir() if place.is_dir()] if folder.is_dir() else []


@pytest.mark.parametrize("kind", list(MADE))
def test_what_is_shared_has_the_bits_of_what_is_not(tmp_path: Path, kind: str) -> None:
    shelf = MADE[kind](tmp_path / kind)
    own = data.load(shelf.folder, shelf.plan(shelf.spec()), 0, look(shelf))
    for _ in range(2):  # made, and then found
        rows = loaded(shelf)
        assert isinstance(rows.inputs, np.memmap)
        for name in shared.NAMES:
            given, expected = getattr(rows, name), getattr(own, name)
            assert (given.dtype, given.shape, given.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
        assert rows.preprocessing == own.preprocessing
        assert (rows.channels is None) == (own.channels is None)
        for part, other in zip(rows.channels or (), own.channels or (), strict=True):
            assert part.tobytes() == other.tobytes()
    [place] = places(shelf)
    loaded(shelf, seed=1)
    # Another seed is another split, unless the split is given.
    assert len(places(shelf)) == (2 if kind in ("table", "images") else 1)
    assert place in places(shelf)


def test_whoever_writes_into_what_is_shared_changes_it_for_nobody_else(tmp_path: Path) -> None:
    shelf = table(tmp_path / "table")
    first, second = loaded(shelf), loaded(shelf)
    before = second.inputs[0].copy()
    first.inputs[0] = 7
    assert (second.inputs[0] == before).all()
    assert (loaded(shelf).inputs[0] == before).all()


def test_data_that_is_not_what_it_was_is_shared_with_nobody(tmp_path: Path) -> None:
    shelf = table(tmp_path / "table")
    assert len(loaded(shelf, digest="of other data").inputs)
    assert places(shelf) == []


def test_what_a_killed_trainer_left_is_no_hindrance(tmp_path: Path) -> None:
    shelf = table(tmp_path / "table")
    loaded(shelf)
    [place] = places(shelf)
    place.rename(draft := place.with_suffix(".tmp"))
    (draft / "inputs.npy").write_bytes(b"half of it")
    assert len(loaded(shelf).inputs)
    assert places(shelf) == [place]


def test_a_folder_that_cannot_be_written_to_is_read_as_if_nobody_shared(tmp_path: Path) -> None:
    shelf = table(tmp_path / "table")
    (shelf.folder / prepared.FOLDER).write_text("in the way")
    assert not isinstance(loaded(shelf).inputs, np.memmap)


def test_what_nobody_uses_is_removed_after_a_while(tmp_path: Path) -> None:
    folder = tmp_path / prepared.FOLDER
    place = folder / "0123"
    with prepared.making(place) as draft:
        (draft / "about.json").write_text("{}")
    assert prepared.sweep(tmp_path) == 0
    os.utime(place, (0, 0))
    held = os.open(place, os.O_RDONLY)
    flock(held, LOCK_SH)
    assert prepared.sweep(tmp_path) == 0
    os.close(held)
    assert prepared.sweep(tmp_path) == 1
    assert not place.exists()
    assert not prepared.used(place)
    with prepared.making(place):
        pass
    assert prepared.used(place)
    os.utime(place, (0, 0))
    assert prepared.sweep(tmp_path) == 0, "what this process uses stays"

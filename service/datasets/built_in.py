"""The data sets that come with the program: real, small, and there without any network."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from service.database import Database
from service.datasets import arrays, catalogue
from service.datasets.catalogue import PRESENT, Arrival
from service.ids import new_id
from service.inspection.found import Found
from service.tables import Dataset

BUILT_IN = {
    "digits": ("classification", "Handwritten digits as 8 x 8 grey values, 1 797 of them, ten classes."),
    "breast_cancer": ("classification", "569 tumours in 30 measurements of their cells, malignant or benign."),
    "wine": ("classification", "178 wines of three growers by 13 chemical measurements."),
    "iris": ("classification", "150 irises of three species by four lengths."),
    "diabetes": ("regression", "442 patients in ten measurements; the target is the disease's progress in a year."),
}


@dataclass(frozen=True)
class Table:
    """What becomes a data set: x of shape (n, d) float32, y of shape (n,) int64 classes or float32 numbers."""

    x: NDArray[np.float32]
    y: NDArray[Any]
    columns: list[str]
    target: str
    classes: list[str] | None


def furnish(database: Database, folder: Path) -> None:
    """Adds the built-in data sets that are missing; one process at a time.

    scikit-learn is imported only then: it takes a second.
    """
    with database.read() as session:
        present = set(catalogue.names(session))
        built_in = session.execute(
            select(Dataset.id, Dataset.name, Dataset.arrays_sha256).where(
                Dataset.name.in_(BUILT_IN), Dataset.owner.is_(None)
            )
        ).all()
    for name in BUILT_IN.keys() - present:
        _store(database, folder, name, _built_in(name))
    for row in built_in:
        # A backup that was put back in another home holds the row, but no arrays.
        if not (folder / row.id).exists():
            _put_back(folder, row.id, _built_in(row.name), row.arrays_sha256)
    _remove_strangers(database, folder)


def _put_back(folder: Path, dataset_id: str, table: Table, sha256: str) -> None:
    """Writes the arrays of a data set again, if they are still the same; else its jobs say that they are gone."""
    draft = _written(folder, table)
    if arrays.digest(draft) == sha256:
        draft.rename(folder / dataset_id)


def _store(database: Database, folder: Path, name: str, table: Table) -> None:
    task, description = BUILT_IN[name]
    draft = _written(folder, table)
    digest = arrays.digest(draft)
    found = Found(
        kind="table",
        task=task,
        shape=[len(table.columns)],
        rows=len(table.x),
        columns=[{"name": column, "type": "number", "missing": 0} for column in table.columns],
        classes=None if table.classes is None else list(_classes(table)),
        target=table.target,
    )
    arrival = Arrival(name, "npy", digest, arrays.size(draft), found, draft, digest, description=description)
    with database.write() as session:
        catalogue.add(session, None, arrival, folder)


def _classes(table: Table) -> Iterator[dict[str, Any]]:
    counts = np.bincount(table.y, minlength=len(table.classes or ()))
    for value, (name, rows) in enumerate(zip(table.classes or (), counts, strict=True)):
        yield {"value": value, "name": name, "rows": int(rows)}


def _written(folder: Path, table: Table) -> Path:
    """A folder of a table's arrays, on the disk."""
    place = folder / new_id()
    place.mkdir(mode=0o700)
    for name, values in (("x", table.x), ("y", table.y)):
        with (place / f"{name}.npy").open("xb") as file:
            np.save(file, values, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
    return place


def _remove_strangers(database: Database, folder: Path) -> None:
    """Folders without a row: what a crash left behind."""
    with database.read() as session:
        known = set(session.scalars(select(Dataset.id).where(PRESENT)))
    for place in folder.iterdir():
        if place.name not in known:
            shutil.rmtree(place, ignore_errors=True)


def _built_in(name: str) -> Table:
    from sklearn import datasets as sklearn_datasets

    bunch = getattr(sklearn_datasets, f"load_{name}")()
    task, _ = BUILT_IN[name]
    target_names = [str(target) for target in bunch.target_names] if task == "classification" else None
    return Table(
        x=np.ascontiguousarray(bunch.data, dtype=np.float32),
        y=np.ascontiguousarray(bunch.target, dtype=np.int64 if task == "classification" else np.float32),
        columns=[str(column) for column in bunch.feature_names],
        target="progression" if name == "diabetes" else "class",
        classes=target_names,
    )

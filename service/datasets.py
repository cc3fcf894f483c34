"""Named, versioned, immutable training data: arrays in a folder of their own, what they are in a table."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from service import clock
from service.database import Database
from service.errors import NotFound
from service.ids import new_id
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


def find(session: Session, reference: str) -> Dataset:
    """The version that NAME@VERSION names, or the newest of NAME. Raises NotFound."""
    name, _, version = reference.partition("@")
    query = select(Dataset).where(Dataset.name == name).order_by(Dataset.version.desc()).limit(1)
    if version:
        query = query.where(Dataset.version == int(version))
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound("data set")
    return found


def newest(after: str | None, limit: int) -> Select[Dataset]:
    """The newest version of each data set, by name, from behind the name `after`."""
    last = select(Dataset.name, func.max(Dataset.version).label("version")).group_by(Dataset.name).subquery()
    query = (
        select(Dataset)
        .join(last, (last.c.name == Dataset.name) & (last.c.version == Dataset.version))
        .order_by(Dataset.name)
        .limit(limit)
    )
    return query if after is None else query.where(Dataset.name > after)


def versions(session: Session, name: str) -> list[Dataset]:
    """All versions, newest first. Raises NotFound."""
    found = list(session.scalars(select(Dataset).where(Dataset.name == name).order_by(Dataset.version.desc())))
    if not found:
        raise NotFound("data set")
    return found


def names(session: Session) -> list[str]:
    return list(session.scalars(select(Dataset.name).distinct().order_by(Dataset.name)))


def furnish(database: Database, folder: Path) -> None:
    """Adds the built-in data sets that are missing; one process at a time.

    scikit-learn is imported only then: it takes a second.
    """
    with database.read() as session:
        present = set(names(session))
        built_in = session.execute(
            select(Dataset.id, Dataset.name, Dataset.sha256).where(Dataset.name.in_(BUILT_IN), Dataset.owner.is_(None))
        ).all()
    for name in BUILT_IN.keys() - present:
        _store(database, folder, name, _built_in(name))
    for row in built_in:
        # A backup that was put back in another home holds the row, but no arrays.
        if not (folder / row.id).exists():
            _put_back(folder, row.id, _built_in(row.name), row.sha256)
    _remove_strangers(database, folder)


def _put_back(folder: Path, dataset_id: str, table: Table, sha256: str) -> None:
    """Writes the arrays of a data set again, if they are still the same; else its jobs say that they are gone."""
    draft = folder / new_id()
    draft.mkdir(mode=0o700)
    digest, _ = _write(draft, {"x": table.x, "y": table.y})
    if digest == sha256:
        draft.rename(folder / dataset_id)


def _store(database: Database, folder: Path, name: str, table: Table) -> None:
    """Arrays first, then the row that makes them exist: a crash in between leaves a folder without a row."""
    task, description = BUILT_IN[name]
    dataset_id = new_id()
    place = folder / dataset_id
    place.mkdir(mode=0o700)
    digest, size = _write(place, {"x": table.x, "y": table.y})
    with database.write() as session:
        session.add(
            Dataset(
                id=dataset_id,
                name=name,
                version=1,
                format="npy",
                task=task,
                kind="table",
                shape=list(table.x.shape[1:]),
                rows=len(table.x),
                columns=[{"name": column, "type": "number"} for column in table.columns],
                target=table.target,
                classes=None if table.classes is None else list(_classes(table)),
                sha256=digest,
                bytes=size,
                description=description,
                owner=None,
                created_at=clock.now(),
            )
        )


def _classes(table: Table) -> Iterable[dict[str, Any]]:
    counts = np.bincount(table.y, minlength=len(table.classes or ()))
    for value, (name, rows) in enumerate(zip(table.classes or (), counts, strict=True)):
        yield {"value": value, "name": name, "rows": int(rows)}


def _write(place: Path, arrays: dict[str, NDArray[Any]]) -> tuple[str, int]:
    """Writes `<name>.npy` files through to the disk; (SHA-256 over them in order of name, bytes in all)."""
    digest, size = hashlib.sha256(), 0
    for name in sorted(arrays):
        path = place / f"{name}.npy"
        with path.open("xb") as file:
            np.save(file, arrays[name], allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        content = path.read_bytes()
        digest.update(content)
        size += len(content)
    descriptor = os.open(place, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return digest.hexdigest(), size


def _remove_strangers(database: Database, folder: Path) -> None:
    """Folders without a row: what a crash left behind."""
    with database.read() as session:
        known = set(session.scalars(select(Dataset.id)))
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

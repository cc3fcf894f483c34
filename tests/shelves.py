"""Stored data sets as trainers read them, small ones, and trainings on them in this process."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service import clock, plan as plans, raw_spec
from service.database import Database
from service.datasets import arrays
from service.ids import new_id
from service.plan import Plan
from service.settings import Settings
from service.spec import JobSpec
from service.tables import Dataset
from workers.training import preparation
from workers.training.preparation import Training

ROWS = 150
TEXT = b"She sells sea shells by the sea shore; the shells she sells are sea shells, I am sure. " * 40


@dataclass(frozen=True)
class Shelf:
    """A folder of arrays. rows: samples, or bytes of a text."""

    folder: Path
    task: str
    rows: int
    classes: int | None = None
    validation_rows: int | None = None

    def spec(self, **changes: Any) -> JobSpec:
        return raw_spec.parse({"task": self.task, "dataset": "shelf", **changes}, lambda _: [])

    def plan(self, spec: JobSpec) -> Plan:
        assert plans.problems(spec, self.rows, self.validation_rows) == []
        return plans.make(spec, self.rows, self.validation_rows)

    def prepared(self, micro_batches: int | None = None, **changes: Any) -> Training:
        spec = self.spec(**changes)
        return preparation.prepare(spec, self.plan(spec), self.folder, self.classes, micro_batches=micro_batches)


def stored(folder: Path, **arrays: Any) -> Path:
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def table(folder: Path, task: str = "classification", rows: int = ROWS) -> Shelf:
    """Three classes, or a number, that hang on four columns."""
    chance = np.random.default_rng(1)
    x = chance.normal(3, 2, (rows, 4)).astype(np.float32)
    sums = x.sum(axis=1)
    if task == "regression":
        return Shelf(stored(folder, x=x, y=sums.astype(np.float32)), task, rows)
    y = np.digitize(sums, np.quantile(sums, [0.33, 0.66]))
    return Shelf(stored(folder, x=x, y=y), task, rows, classes=3)


def images(folder: Path, rows: int = ROWS, channels: int = 1, kind: Any = np.uint8) -> Shelf:
    """Dark ones and bright ones, of 6 x 6."""
    chance = np.random.default_rng(2)
    y = chance.integers(0, 2, rows)
    x = chance.integers(0, 128, (rows, channels, 6, 6)) + 100 * y[:, None, None, None]
    return Shelf(stored(folder, x=x.astype(kind), y=y), "classification", rows, classes=2)


def text(folder: Path, content: bytes = TEXT, validation: bytes | None = None) -> Shelf:
    arrays = {"text": np.frombuffer(content, np.uint8)}
    if validation is not None:
        arrays["text_val"] = np.frombuffer(validation, np.uint8)
    own = None if validation is None else len(validation)
    return Shelf(stored(folder, **arrays), "language_modeling", len(content), validation_rows=own)


def put(settings: Settings, shelf: Shelf, name: str) -> None:
    """Makes a data set of the service out of a shelf."""
    dataset_id = new_id()
    place = settings.datasets_path / dataset_id
    shutil.copytree(shelf.folder, place)
    x = next(np.load(path) for path in (place / "x.npy", place / "text.npy") if path.exists())
    kind = {1: "text", 2: "table", 4: "images"}[x.ndim]
    database = Database(settings.database_path)
    with database.write() as session:
        session.add(
            Dataset(
                id=dataset_id,
                name=name,
                version=1,
                format="npy",
                kind=kind,
                task=shelf.task,
                shape=list(x.shape[1:]),
                rows=shelf.rows,
                validation_rows=shelf.validation_rows,
                columns=[],
                target="y",
                classes=shelf.classes and [{"value": value, "name": f"c{value}"} for value in range(shelf.classes)],
                sha256="",
                bytes=0,
                arrays_sha256=arrays.digest(place),
                stored_bytes=0,
                copied=False,
                description="",
                created_at=clock.now(),
            )
        )
    database.close()


def bare() -> Dataset:
    """`rows`, a data set of 100 rows without arrays, for jobs that nobody trains."""
    return Dataset(
        id="rows-of-a-test",
        name="rows",
        version=1,
        format="npy",
        kind="table",
        task="classification",
        shape=[4],
        rows=100,
        columns=[],
        target="class",
        classes=[{"value": 0}, {"value": 1}],
        sha256="",
        bytes=0,
        arrays_sha256="",
        description="",
        owner=None,
        created_at=clock.now(),
    )

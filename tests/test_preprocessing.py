"""What becomes of a table on its way to the model: statistics of the training split, and nothing of the other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.preprocessing import OneHotEncoder

from service import plan as plans
from service.spec import JobSpec, filled
from workers.training import data, loop, preparation, preprocessing, room
from workers.training.preprocessing import MissingValues, Preprocessing

Table = NDArray[np.float32]

COLUMNS: list[dict[str, Any]] = [
    {"name": "age", "type": "number"},
    {"name": "city", "type": "category", "values": ["Oslo", "Rome", "Ulm"]},
    {"name": "since", "type": "date"},
]
NAN = np.nan


def encoded(fitted: Preprocessing, x: Table, rows: Any = None, scratch: Path = Path(".")) -> Table:
    return fitted.table(x, np.arange(len(x)) if rows is None else np.asarray(rows), scratch)


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine", "iris", "diabetes"])
def test_a_table_of_numbers_is_standardised_as_a_whole_to_the_last_bit(name: str) -> None:
    """In the bits that NumPy gives over the whole table, as before there were categories."""
    x = getattr(datasets, f"load_{name}")().data.astype(np.float32)
    train, validation = data.split(np.zeros(len(x), np.int64), len(x) // 5, seed=1)
    wanted, wanted_validation = x[train], x[validation]
    data.standardise(wanted, wanted_validation)
    fitted = Preprocessing.fit(x, train, None, "refuse")
    assert encoded(fitted, x, train).tobytes() == wanted.tobytes()
    assert encoded(fitted, x, validation).tobytes() == wanted_validation.tobytes()
    again = Preprocessing.fit(x, train, None, "mean")
    assert encoded(again, x, train).tobytes() == wanted.tobytes(), "where no cell is empty, both are the same"


def test_only_the_training_split_has_a_say() -> None:
    x = np.array([[1], [3], [100]], np.float32)
    fitted = Preprocessing.fit(x, np.array([0, 1]), None, "refuse")
    assert (fitted.mean, fitted.deviation) == ([2.0], [1.0])
    assert encoded(fitted, x)[:, 0].tolist() == [-1, 1, 98]


def test_categories_are_one_hot_and_an_empty_cell_is_none_of_them() -> None:
    x = np.array([[20, 2, 5], [NAN, 0, 5], [40, NAN, 5]], np.float32)
    fitted = Preprocessing.fit(x, np.arange(3), COLUMNS, "mean")
    assert fitted.width == 5
    assert encoded(fitted, x).tolist() == [[-1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    for rows in ([0, 1], [0, 2]):
        with pytest.raises(MissingValues):
            Preprocessing.fit(x, np.array(rows), COLUMNS, "refuse")
    whole = Preprocessing.fit(x, np.array([0]), COLUMNS, "refuse")
    with pytest.raises(MissingValues):
        encoded(whole, x)


def test_one_hot_is_that_of_scikit_learn() -> None:
    codes = np.random.default_rng(0).integers(0, 3, (50, 1))
    fitted = Preprocessing.fit(codes.astype(np.float32), np.arange(50), COLUMNS[1:2], "refuse")
    wanted = OneHotEncoder(categories=[range(3)], sparse_output=False).fit_transform(codes)
    np.testing.assert_array_equal(encoded(fitted, codes.astype(np.float32)), wanted)


def test_an_empty_column_and_a_constant_one_become_zeros() -> None:
    x = np.array([[NAN, 0.1], [NAN, 0.1], [NAN, 0.1]], np.float32)
    fitted = Preprocessing.fit(x, np.arange(3), None, "mean")
    assert fitted.deviation == [1.0, 1.0]
    assert np.abs(encoded(fitted, x)).max() < 1e-7


def test_it_is_kept_as_json_and_sees_the_same_afterwards() -> None:
    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    x[:, 1] = np.arange(30) % 3
    x[3, 0] = NAN
    fitted = Preprocessing.fit(x, np.arange(20), COLUMNS, "mean")
    kept = Preprocessing.from_json(json.loads(json.dumps(fitted.to_json())))
    assert kept == fitted
    assert kept.to_json()["kind"] == "table"
    assert encoded(kept, x).tobytes() == encoded(fitted, x).tobytes()


@given(rows=st.integers(1, 60), block=st.integers(1, 20), seed=st.integers(0, 99))
def test_blocks_change_nothing_but_the_last_bits(rows: int, block: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    x = chance.normal(5, 3, (rows, 2)).astype(np.float32)
    x[chance.random(x.shape) < 0.1] = NAN
    whole = Preprocessing.fit(x, np.arange(rows), None, "mean")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preprocessing, "BLOCK_CELLS", 2 * block)
        parts = Preprocessing.fit(x, np.arange(rows), None, "mean")
        np.testing.assert_allclose(encoded(parts, x), encoded(whole, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(whole.mean, np.nan_to_num(_quietly(np.nanmean, x)), rtol=1e-6)


def _quietly(statistic: Any, x: Table) -> Any:
    with np.errstate(all="ignore"):
        counted = (~np.isnan(x)).sum(axis=0)
        return np.where(counted > 0, np.nansum(x, axis=0, dtype=np.float64) / np.maximum(counted, 1), 0)


def test_a_table_larger_than_the_memory_is_trained_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses are the same, and no file is left behind."""
    chance = np.random.default_rng(0)
    x = np.column_stack([chance.normal(size=(200, 3)), np.arange(200) % 3]).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", (x[:, 0] > 0).astype(np.int64))
    columns = [{"name": name, "type": "number"} for name in "abc"] + [COLUMNS[1]]
    spec = filled(JobSpec.model_validate({"task": "classification", "dataset": "x"}))
    plan = plans.make(spec, 200)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.chdir(scratch)

    def losses() -> list[float]:
        training = preparation.prepare(spec, plan, tmp_path, 2, columns=columns)
        assert training.train.inputs.shape == (160, 6)
        assert isinstance(Preprocessing.from_json(training.preprocessing), Preprocessing)
        return [step.loss.item() for step in loop.train(training)]

    in_memory = losses()
    monkeypatch.setattr(room, "free_bytes", lambda: 0)
    assert isinstance(room.empty((10, 2), np.float32, scratch), np.memmap)
    assert losses() == in_memory
    assert not list(scratch.iterdir())


def test_a_validation_split_that_comes_with_the_data_is_seen_with_the_eyes_of_the_training(tmp_path: Path) -> None:
    arrays = {"x": [[0], [2]], "y": [0, 1], "x_val": [[4], [5], [6]], "y_val": [1, 0, 1]}
    for name, rows in arrays.items():
        np.save(tmp_path / f"{name}.npy", np.array(rows, np.float32 if name[0] == "x" else np.int64))
    spec = filled(JobSpec.model_validate({"task": "classification", "dataset": "x"}))
    plan = plans.make(spec, 2, 3)
    assert (plan.train_samples, plan.validation_samples) == (2, 3)
    rows = data.load(tmp_path, plan, 0, data.Look(stratified=True))
    assert rows.inputs[:, 0].tolist() == [-1, 1]
    assert rows.validation_inputs[:, 0].tolist() == [3, 4, 5]
    assert rows.validation_targets.tolist() == [1, 0, 1]
    with pytest.raises(data.InputChanged):
        data.load(tmp_path, plans.make(spec, 2, 4), 0, data.Look(stratified=True))

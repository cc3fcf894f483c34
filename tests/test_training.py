import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from sklearn import datasets, metrics
from torch import nn

from service import plan as plans, raw_spec
from service.checkpoints import Kept
from service.datasets import arrays
from service.plan import Plan
from service.settings import trainer_environment
from service.spec import JobSpec
from service.states import EndReason
from workers import outcomes, spool
from workers.trainer import Order
from workers.training import data, loop, preparation
from workers.training.loop import Step

CLASSES = {"digits": 10, "breast_cancer": 2}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data sets as the service stores them."""
    folder = tmp_path_factory.mktemp("datasets")
    for name in ("digits", "breast_cancer", "diabetes"):
        found = getattr(datasets, f"load_{name}")()
        save(folder / name, found.data, found.target.astype(np.int64 if name in CLASSES else np.float32))
    return folder


def save(directory: Path, x: Any, y: NDArray[Any]) -> Path:
    directory.mkdir()
    np.save(directory / "x.npy", np.asarray(x, np.float32))
    np.save(directory / "y.npy", y)
    return directory


def rows_of(directory: Path) -> int:
    return len(np.load(directory / "y.npy"))


def spec_of(dataset: str, **changes: Any) -> JobSpec:
    raw = {"task": "classification" if dataset in CLASSES else "regression", "dataset": dataset, **changes}
    return raw_spec.parse(raw, lambda _: [])


def prepared(directory: Path, **changes: Any) -> preparation.Training:
    spec = spec_of(directory.name, **changes)
    return preparation.prepare(spec, plans.make(spec, rows_of(directory)), directory, CLASSES.get(directory.name))


def trained(directory: Path, **changes: Any) -> list[Step]:
    return list(loop.train(prepared(directory, **changes)))


def losses(steps: list[Step]) -> list[float]:
    return torch.stack([step.loss for step in steps]).tolist()


def validations(steps: list[Step]) -> dict[int, dict[str, float]]:
    return {step.number: step.validation for step in steps if step.validation is not None}


# Steps, epochs and batches


@pytest.mark.parametrize(
    "chosen",
    [
        {"epochs": 2, "batch_size": 100},
        {"epochs": 2, "batch_size": 100, "drop_last": True},
        {"epochs": 3, "batch_size": "full"},
        {"epochs": 1, "batch_size": 4096},
        {"max_steps": 20, "batch_size": 100},
        {"max_steps": 1},
    ],
)
def test_the_steps_and_their_samples_are_those_of_the_plan(library: Path, chosen: dict[str, Any]) -> None:
    training = prepared(library / "digits", hyperparameters=chosen)
    plan = training.plan
    steps = list(loop.train(training))
    assert [step.number for step in steps] == list(range(1, plan.total_steps + 1))
    seen = np.cumsum([step.samples for step in steps])
    assert seen.tolist() == plans.samples_at(np.arange(1, plan.total_steps + 1), plan).tolist()
    assert seen[-1] == plan.total_samples
    for step in steps:
        last = step.number % plan.steps_per_epoch == 0
        assert step.samples == (plan.last_batch_samples if last else plan.batch_size)
    assert len(validations(steps)) == plan.validations


@pytest.mark.parametrize(("every", "at"), [(None, [10, 20, 25]), (7, [7, 14, 21, 25]), (100, [25])])
def test_it_validates_at_every_interval_and_after_the_last_step(
    library: Path, every: int | None, at: list[int]
) -> None:
    chosen = {"max_steps": 25, "batch_size": 144}
    steps = trained(library / "digits", hyperparameters=chosen, validation={"every_steps": every})
    assert list(validations(steps)) == at


def test_without_validation_rows_nothing_is_validated(library: Path) -> None:
    training = prepared(library / "digits", hyperparameters={"epochs": 1}, validation={"fraction": 0})
    assert validations(list(loop.train(training))) == {}
    assert not [name for name in training.series if name.startswith("val_")]


def test_each_epoch_goes_through_every_sample_once_in_an_order_of_its_own() -> None:
    first, second = data.order(7, 0, 100), data.order(7, 1, 100)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert first.tolist() != second.tolist()
    assert data.order(7, 1, 100).tolist() == second.tolist()
    assert data.order(8, 1, 100).tolist() != second.tolist()


@pytest.mark.parametrize(("columns", "size"), [(4, 16), (3, 7), (70000, 8)])  # the last ones are fetched one by one
def test_the_batches_of_an_epoch_are_the_same_ones_wherever_it_is_entered(columns: int, size: int) -> None:
    samples = data.Samples(torch.randn(60, columns), torch.arange(60))
    order = data.order(seed=3, epoch=2, samples=60)
    whole = list(data.batches(samples, order, size, 0))
    assert [targets.tolist() for _, targets in whole] == [rows.tolist() for rows in torch.split(order, size)]
    for first in range(len(whole)):
        entered = data.batches(samples, order, size, first)
        for (inputs, targets), (expected, labels) in zip(entered, whole[first:], strict=True):
            assert torch.equal(inputs, expected)
            assert torch.equal(targets, labels)
            assert inputs.data_ptr() % data.ALIGNED_BYTES == 0


def test_a_model_that_writes_into_its_inputs_writes_into_no_other_batch_and_not_into_the_data() -> None:
    samples = data.Samples(torch.ones(64, 4), torch.arange(64))
    weight = torch.full((1,), 3.0, requires_grad=True)
    for inputs, _ in data.batches(samples, torch.arange(64), 16, 0):
        weight.grad = None
        inputs.mul_(weight).sum().backward()  # type: ignore[no-untyped-call]
        assert weight.grad == 16 * 4
    assert bool((samples.inputs == 1).all())


def test_without_shuffling_every_epoch_keeps_the_order_of_the_rows(library: Path) -> None:
    training = prepared(library / "digits", hyperparameters={"shuffle": False})
    assert loop.epoch_order(training, 0).tolist() == loop.epoch_order(training, 5).tolist() == list(range(1437))


# The split and the columns


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    fraction=st.floats(0, 0.9),
    seed=st.integers(0, 2**63 - 1),
)
def test_a_split_has_exactly_the_planned_sizes_and_each_class_its_share(
    sizes: list[int], fraction: float, seed: int
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    planned = plans.split_sizes(len(labels), fraction)
    train, validation = data.split(labels, planned[1], seed)
    assert (len(train), len(validation)) == planned
    assert sorted([*train, *validation]) == list(range(len(labels)))
    held_back = np.bincount(labels[validation], minlength=len(sizes))
    assert np.all(np.abs(held_back - np.array(sizes) * planned[1] / len(labels)) < 1)
    again, _ = data.split(labels, planned[1], seed)
    assert again.tolist() == train.tolist()


def test_another_seed_holds_other_rows_back() -> None:
    labels = np.repeat([0, 1], 50)
    assert data.split(labels, 20, 1)[1].tolist() != data.split(labels, 20, 2)[1].tolist()


def test_columns_lose_the_mean_and_deviation_of_the_training_rows_alone() -> None:
    random = np.random.default_rng(0)
    train = random.normal(1e4, 3, (200, 4)).astype(np.float32)
    validation = random.normal(1e4, 3, (50, 4)).astype(np.float32)
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    expected = (validation - mean) / deviation
    means, deviations = data.standardise(train, validation)
    assert means == pytest.approx(mean)
    assert deviations == pytest.approx(deviation)
    assert train.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-4)
    assert train.std(axis=0) == pytest.approx(np.ones(4), abs=1e-4)
    assert validation == pytest.approx(expected, abs=1e-4)


def test_a_constant_column_becomes_zeros() -> None:
    train, validation = np.full((7, 1), 0.1, np.float32), np.full((3, 1), 0.1, np.float32)
    assert data.standardise(train, validation)[1].tolist() == [1.0]
    assert np.abs([*train, *validation]).max() < 1e-6


def test_a_data_set_of_another_size_than_planned_is_refused(library: Path) -> None:
    spec = spec_of("digits")
    with pytest.raises(data.InputChanged, match="has 1797 rows and the plan was made for 1796"):
        preparation.prepare(spec, plans.make(spec, 1796), library / "digits", 10)


# The same spec, the same curve


DROPOUT = {"type": "mlp", "hidden_sizes": [32], "dropout": 0.3}


def test_the_same_seed_gives_the_same_curves_to_the_last_bit(library: Path) -> None:
    first, second = (trained(library / "digits", model=DROPOUT, hyperparameters={"epochs": 2}) for _ in range(2))
    assert losses(first) == losses(second)
    assert validations(first) == validations(second)


def test_another_seed_gives_another_curve(library: Path) -> None:
    first, second = (
        trained(library / "digits", hyperparameters={"max_steps": 5, "seed": seed}) for seed in (0, 2**63 - 1)
    )
    assert not set(losses(first)) & set(losses(second))


def test_looking_at_the_validation_split_does_not_change_the_training(library: Path) -> None:
    curves = [
        losses(trained(library / "digits", model=DROPOUT, hyperparameters={"epochs": 2}, validation={"every_steps": n}))
        for n in (1, 7, 1000)
    ]
    assert curves[0] == curves[1] == curves[2]


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.8, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.99), weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.8, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("most", [None, 0.5])
def test_every_update_equals_that_of_a_plain_pytorch_loop(library: Path, name: str, most: float | None) -> None:
    chosen = {
        "optimizer": name,
        "learning_rate": 0.01,
        "momentum": 0.8,
        "betas": [0.8, 0.99],
        "weight_decay": 0.1,
        "epochs": 2,
        "batch_size": 37,
        "seed": 3,
        "max_grad_norm": most,
    }
    training = prepared(
        library / "breast_cancer", model={"type": "mlp", "hidden_sizes": [9, 5]}, hyperparameters=chosen
    )
    steps = list(loop.train(training))

    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(30, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 2))
    optimizer = OPTIMIZERS[name](model.parameters())
    x, y = training.train.inputs, training.train.targets
    expected: list[float] = []
    norms: list[float] = []
    for epoch in range(2):
        order = data.order(3, epoch, len(x))
        for start in range(0, len(x), 37):
            batch = order[start : start + 37]
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if most is not None:
                norms.append(nn.utils.clip_grad_norm_(model.parameters(), most).item())
            elif len(expected) % loop.GRAD_NORM_EVERY == 0:
                gradients = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
                norms.append(torch.cat(gradients).norm().item())
            optimizer.step()
            expected.append(loss.item())

    assert losses(steps) == expected
    measured = [step.grad_norm.item() for step in steps if step.grad_norm is not None]
    assert measured == (norms if most is not None else pytest.approx(norms))
    for ours, theirs in zip(training.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_each_step_uses_the_learning_rate_of_its_schedule(library: Path) -> None:
    chosen = {"max_steps": 10, "learning_rate": 0.1, "lr_schedule": "linear", "optimizer": "sgd", "momentum": 0.0}
    training = prepared(library / "breast_cancer", model={"type": "linear"}, hyperparameters=chosen)
    weights = [parameter.detach().clone() for parameter in training.model.parameters()]
    for step in loop.train(training):
        assert step.learning_rate == pytest.approx(0.1 * (1 - (step.number - 1) / 10))
        for before, parameter in zip(weights, training.model.parameters(), strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(before - step.learning_rate * parameter.grad, parameter.detach())
            before.copy_(parameter.detach())


# Learning


def last_scores(steps: list[Step]) -> dict[str, float]:
    assert steps[-1].validation is not None
    return steps[-1].validation


def test_digits_are_learned(library: Path) -> None:
    steps = trained(library / "digits", hyperparameters={"epochs": 15, "learning_rate": 0.003})
    assert last_scores(steps)["val_accuracy"] > 0.95
    assert np.mean(losses(steps)[-20:]) < losses(steps)[0] / 10


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_breast_cancer_is_learned(library: Path, loss: str, model: str) -> None:
    chosen = {"epochs": 15, "loss": loss, "learning_rate": 0.01}
    steps = trained(library / "breast_cancer", model={"type": model}, hyperparameters=chosen)
    assert last_scores(steps)["val_accuracy"] > 0.93
    assert last_scores(steps)["val_f1"] > 0.92


@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
def test_diabetes_is_learned(library: Path, loss: str) -> None:
    chosen = {"epochs": 40, "loss": loss, "learning_rate": 0.01}
    scores = last_scores(trained(library / "diabetes", model={"type": "linear"}, hyperparameters=chosen))
    assert scores["val_r2"] > 0.35
    assert 30 < scores["val_mae"] < 60  # in the target's own unit: guessing the mean gives about 65


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu", "sigmoid"])
def test_every_activation_lets_the_loss_fall(library: Path, activation: str) -> None:
    model = {"type": "mlp", "hidden_sizes": [32], "activation": activation}
    steps = trained(library / "digits", model=model, hyperparameters={"epochs": 3, "learning_rate": 0.01})
    assert np.mean(losses(steps)[-10:]) < 0.5 * losses(steps)[0]


def test_bce_is_refused_for_more_than_two_classes(library: Path) -> None:
    with pytest.raises(ValueError, match="bce is for two classes and the data set has 10"):
        prepared(library / "digits", hyperparameters={"loss": "bce"})


# Metrics


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_classification_scores_are_those_of_scikit_learn(library: Path, loss: str) -> None:
    training = prepared(library / "breast_cancer", hyperparameters={"max_steps": 2, "loss": loss})
    scores = last_scores(list(loop.train(training)))
    with torch.no_grad():
        outputs = training.model.eval()(training.validation.inputs)
    predicted = (outputs[:, 0] > 0).long() if loss == "bce" else outputs.argmax(dim=1)
    truth = training.validation.targets.flatten().long()
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    assert scores == pytest.approx(
        {
            "val_loss": training.task.loss(outputs, training.validation.targets).item(),
            "val_accuracy": metrics.accuracy_score(truth, predicted),
            "val_recall": metrics.recall_score(truth, predicted, **macro),
            "val_precision": metrics.precision_score(truth, predicted, **macro),
            "val_f1": metrics.f1_score(truth, predicted, **macro),
        }
    )


def test_a_class_that_is_never_predicted_counts_zero_and_one_that_is_absent_too_does_not_count(library: Path) -> None:
    task = prepared(library / "digits").task
    outputs, targets = torch.zeros(4, 10), torch.tensor([0, 0, 1, 2])
    outputs[:, 0] = 1
    scores = task.scores(task.tally(outputs, targets).tolist())
    assert scores == pytest.approx(
        {"val_accuracy": 0.5, "val_recall": 1 / 3, "val_precision": 0.5 / 3, "val_f1": 2 * 2 / 6 / 3}
    )


def test_regression_scores_are_those_of_scikit_learn_in_the_targets_own_unit(library: Path) -> None:
    training = prepared(library / "diabetes", hyperparameters={"epochs": 3})
    scores = last_scores(list(loop.train(training)))
    y = np.load(library / "diabetes" / "y.npy")
    train, validation = data.split(np.zeros(len(y), np.int64), training.plan.validation_samples, 0)
    with torch.no_grad():
        outputs = training.model(training.validation.inputs)[:, 0].numpy()
    predicted = outputs * y[train].std() + y[train].mean()
    assert scores["val_mae"] == pytest.approx(metrics.mean_absolute_error(y[validation], predicted), rel=1e-4)
    assert scores["val_r2"] == pytest.approx(metrics.r2_score(y[validation], predicted), rel=1e-4)


def test_scores_do_not_depend_on_how_the_validation_split_is_cut(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = prepared(library / "digits")
    whole = loop.validate(training)
    monkeypatch.setattr(loop, "VALIDATION_BATCH", 7)
    assert loop.validate(training) == pytest.approx(whole)


def test_validation_targets_that_are_all_the_same_leave_nothing_to_explain(tmp_path: Path) -> None:
    directory = save(tmp_path / "flat", np.arange(40)[:, None], np.full(40, 3.5, np.float32))
    scores = last_scores(trained(directory, model={"type": "linear"}, hyperparameters={"max_steps": 1}))
    assert scores["val_r2"] == 0
    assert math.isfinite(scores["val_mae"])


# The trainer: a process with an order, a spool and an outcome

# Forks one trainer for each line, the folder with its order, as the worker's forkserver does.
FORKER = """
import os, resource, sys
from pathlib import Path
from workers import trainer, training
training.warm()
for line in sys.stdin:
    folder = Path(line.strip())
    pid = os.fork()
    if pid == 0:
        os.setsid()
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
        lifeline, bell = os.open(folder / "lifeline", os.O_RDONLY), os.open(folder / "bell", os.O_WRONLY)
        os._exit(trainer.run(trainer.Order.from_json((folder / "order.json").read_text()), lifeline, bell))
    print("started", pid, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass
class Started:
    """A trainer: the test holds the worker's end of its lifeline and hears its bell."""

    folder: Path
    forker: subprocess.Popen[str]
    pid: int
    lifeline: int | None
    bell: int
    ended: int | None = None

    def let_go(self) -> None:
        if self.lifeline is not None:
            os.close(self.lifeline)
        self.lifeline = None

    def code(self) -> int:
        """Waits for the end: the exit code, or the signal as a negative number."""
        if self.ended is None:
            self.ended = said(self.forker, "ended")
        return self.ended

    def outcome(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "outcome.json").read_text())
        return found

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def points(self) -> dict[str, list[tuple[int, float, float]]]:
        """(step, value, time) of each series, without the marks."""
        names = spool.names(self.folder / "spool")
        records, _ = spool.read(self.folder / "spool", 0, 1 << 30)
        points: dict[str, list[tuple[int, float, float]]] = {name: [] for name in names}
        for series, step, value, moment in records[records["series"] < spool.INEXACT].tolist():
            points[names[series]].append((step, value, moment))
        return points


def said(forker: subprocess.Popen[str], word: str) -> int:
    assert forker.stdout is not None
    found, number = forker.stdout.readline().split()
    assert found == word
    return int(number)


@pytest.fixture(scope="module")
def forker() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", FORKER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=trainer_environment(), stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def launch(forker: subprocess.Popen[str], tmp_path: Path) -> Iterator[Callable[[Order], Started]]:
    started: list[Started] = []

    def launch(order: Order) -> Started:
        assert forker.stdin is not None
        for name in ("lifeline", "bell"):
            os.mkfifo(tmp_path / name)
        bell = os.open(tmp_path / "bell", os.O_RDONLY | os.O_NONBLOCK)
        lifeline = os.open(tmp_path / "lifeline", os.O_RDWR | os.O_NONBLOCK)
        (tmp_path / "order.json").write_text(order.to_json())
        forker.stdin.write(f"{tmp_path}\n")
        forker.stdin.flush()
        started.append(Started(tmp_path, forker, said(forker, "started"), lifeline, bell))
        return started[0]

    yield launch
    for each in started:
        each.let_go()
        each.code()
        os.close(each.bell)


@pytest.fixture
def start(library: Path, launch: Callable[[Order], Started], tmp_path: Path) -> Callable[..., Started]:
    return lambda dataset, **changes: launch(order_of(library / dataset, tmp_path, **changes))


def order_of(directory: Path, folder: Path, **changes: Any) -> Order:
    spec = spec_of(directory.name, **changes)
    return Order(
        job_id="01jd3k5v7-x4q2m8z",
        attempt=1,
        spec=json.loads(spec.model_dump_json()),
        plan=json.loads(plans.make(spec, rows_of(directory)).model_dump_json()),
        classes=CLASSES.get(directory.name),
        dataset_path=str(directory),
        dataset_sha256=arrays.digest(directory),
        checkpoints_path=str(folder / "checkpoints"),
        checkpoints=[],
        resumed_path=str(folder / "resumed.json"),
        spool_path=str(folder / "spool"),
        outcome_path=str(folder / "outcome.json"),
        device="cpu",
    )


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come in time"
        select.select([], [], [], 0.005)
    return found


def values(points: list[tuple[int, float, float]]) -> list[float]:
    return [value for _, value, _ in points]


ENDLESS = {"max_steps": 1_000_000_000, "batch_size": 16}
DIVERGING = {"max_steps": 2000, "optimizer": "sgd", "learning_rate": 1.0}


def test_a_trainer_leaves_every_point_and_says_how_it_ended(library: Path, start: Callable[..., Started]) -> None:
    changes: dict[str, Any] = {"model": DROPOUT, "hyperparameters": {"epochs": 3, "max_grad_norm": 1.0}}
    started = start("digits", **changes)
    assert started.code() == 0
    assert started.outcome() == {"status": "succeeded", "code": None, "message": "trained 69 steps", "steps": 69}

    steps = trained(library / "digits", **changes)
    points = started.points()
    every = list(range(1, 70))
    for name in ("train_loss", "learning_rate", "samples_per_second", "grad_norm"):
        assert [step for step, _, _ in points[name]] == every
    assert values(points["train_loss"]) == losses(steps)
    assert values(points["learning_rate"]) == [0.001] * 69
    assert values(points["grad_norm"]) == [step.grad_norm.item() for step in steps if step.grad_norm is not None]
    assert min(values(points["samples_per_second"])) > 0
    for name in ("val_loss", "val_accuracy", "val_recall", "val_precision", "val_f1"):
        assert {step: value for step, value, _ in points[name]} == {
            step: scores[name] for step, scores in validations(steps).items()
        }
    times = [moment for _, _, moment in points["train_loss"]]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 30

    log = started.log()
    assert "classification of digits: 1437 training and 360 validation samples of 64 columns" in log
    assert "step 69: val_loss " in log
    assert log.endswith("succeeded: trained 69 steps\n")
    assert not (started.folder / "outcome.json.tmp").exists()


def test_a_trainer_uses_as_many_threads_as_it_was_given(start: Callable[..., Started]) -> None:
    started = start("digits", hyperparameters={"epochs": 1, "batch_size": "full"}, resources={"threads": 2})
    assert started.code() == 0
    assert "device cpu, threads 2, torch " in started.log()


def test_the_first_step_can_be_read_at_once_and_the_bell_says_so(start: Callable[..., Started]) -> None:
    started = start("digits", hyperparameters=ENDLESS)
    readable, _, _ = select.select([started.bell], [], [], 30)
    assert readable
    assert started.points()["train_loss"][0][0] == 1


def test_a_trainer_that_is_asked_to_stop_ends_after_a_step(start: Callable[..., Started]) -> None:
    started = start("digits", hyperparameters=ENDLESS, validation={"fraction": 0.1})
    until(lambda: spool.read(started.folder / "spool", 0)[1] > 10_000)
    os.kill(started.pid, signal.SIGTERM)
    assert started.code() == 0
    outcome = started.outcome()
    assert outcome["status"] == "stopped"
    assert outcome["message"] == f"asked to stop after step {outcome['steps']} of 1000000000"
    assert [step for step, _, _ in started.points()["train_loss"]] == list(range(1, outcome["steps"] + 1))
    kept = started.folder / "checkpoints"
    assert (kept / f"a1-s{outcome['steps']}" / "state.pt").exists()
    assert sum((path / "state.pt").exists() for path in kept.iterdir()) == 1  # beside it the best weights alone


def test_a_trainer_whose_worker_dies_ends_after_a_step(start: Callable[..., Started]) -> None:
    started = start("diabetes", hyperparameters=ENDLESS)
    until(lambda: spool.read(started.folder / "spool", 0)[1] > 10_000)
    started.let_go()
    assert started.code() == 0
    outcome = started.outcome()
    assert outcome["status"] == "stopped"
    assert [step for step, _, _ in started.points()["train_loss"]] == list(range(1, outcome["steps"] + 1))


def test_a_trainer_whose_worker_dies_and_that_comes_to_no_end_of_a_step_is_ended() -> None:
    script = """
import os, sys, threading, time
from workers import trainer
assert "torch" not in sys.modules
trainer.GRACE_SECONDS = 0.1
lifeline, held = os.pipe()
stop, over = trainer.Stop(), threading.Event()
threading.Thread(target=trainer._hold, args=(lifeline, stop, over), daemon=True).start()
assert not over.wait(0.2) and not stop.asked
os.close(held)
while True:
    time.sleep(10)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=30).returncode == 1


def test_a_loss_that_is_not_finite_ends_the_training_and_is_its_last_point(start: Callable[..., Started]) -> None:
    started = start("diabetes", model={"type": "linear"}, hyperparameters=DIVERGING | {"max_grad_norm": 1e300})
    assert started.code() == 1
    outcome, points = started.outcome(), started.points()
    *before, last = values(points["train_loss"])
    assert all(map(math.isfinite, before))
    assert not math.isfinite(last)
    assert len(before) > 10
    assert (outcome["status"], outcome["code"], outcome["steps"]) == ("failed", "non_finite", len(before) + 1)
    norm = values(points["grad_norm"])[-1]
    assert outcome["message"] == (
        f"train_loss is {last} at step {len(before) + 1}, with learning rate 1 and gradient norm {norm:g}"
    )
    for name in ("train_loss", "learning_rate", "samples_per_second", "grad_norm"):
        assert len(points[name]) == len(before) + 1
    assert "Traceback" not in started.log()


def test_a_training_that_is_to_go_on_does_so_without_finite_losses(start: Callable[..., Started]) -> None:
    started = start("diabetes", model={"type": "linear"}, hyperparameters=DIVERGING, on_non_finite="continue")
    assert started.code() == 0
    points = started.points()
    assert [step for step, _, _ in points["train_loss"]] == list(range(1, 2001))
    assert math.isnan(points["train_loss"][-1][1])
    assert math.isnan(points["val_mae"][-1][1])
    assert started.outcome()["status"] == "succeeded"


def test_a_model_too_large_for_the_memory_fails_for_that_reason(start: Callable[..., Started]) -> None:
    started = start("digits", model={"type": "mlp", "hidden_sizes": [16_384, 16_384]})
    assert started.code() == 1
    outcome = started.outcome()
    assert (outcome["status"], outcome["code"], outcome["steps"]) == ("failed", "oom_host", 0)


def test_what_goes_wrong_in_a_training_is_one_line_for_the_user_and_a_traceback_in_the_log(
    library: Path, launch: Callable[[Order], Started], tmp_path: Path
) -> None:
    y = np.arange(40) % 3
    y[-5:] = 12
    if not (library / "wrong").exists():
        save(library / "wrong", np.eye(40), y)
    order = replace(order_of(library / "wrong", tmp_path), classes=3)
    order.spec["task"] = "classification"
    order.spec["hyperparameters"]["loss"] = "cross_entropy"
    started = launch(order)
    assert started.code() == 1
    outcome = started.outcome()
    assert outcome == {
        "status": "failed",
        "code": "error",
        "message": "IndexError: Target 12 is out of bounds.",
        "steps": 0,
    }
    assert "Traceback (most recent call last)" in started.log()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), EndReason.DISK_FULL),
        (OSError(12, "Cannot allocate memory"), EndReason.OOM_HOST),
        (OSError(2, "No such file"), EndReason.ERROR),
        (MemoryError(), EndReason.OOM_HOST),
        (torch.OutOfMemoryError("CUDA out of memory"), EndReason.OOM_DEVICE),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), EndReason.OOM_HOST),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), EndReason.ERROR),
        (data.InputChanged("other rows"), EndReason.INPUT_CHANGED),
    ],
)
def test_an_error_is_given_the_reason_that_users_test_for(error: Exception, reason: EndReason) -> None:
    assert outcomes._reason(error) is reason


def test_an_order_survives_its_way_through_json(library: Path, tmp_path: Path) -> None:
    order = order_of(library / "digits", tmp_path, hyperparameters={"betas": [0.5, 0.75]}, tags={"a": "ü"})
    order = replace(order, checkpoints=[Kept(2, 40, 1.5, "c0ffee"), Kept(1, 20, 0.75, "beef")])
    assert Order.from_json(order.to_json()) == order
    assert JobSpec.model_validate(order.spec) == spec_of(
        "digits", hyperparameters={"betas": [0.5, 0.75]}, tags={"a": "ü"}
    )
    assert Plan.model_validate(order.plan).total_steps == 230


def test_a_process_that_was_warmed_up_has_one_thread_and_no_gpu_in_use() -> None:
    script = """
import os, torch
from workers import training
training.warm()
assert len(os.listdir("/proc/self/task")) == 1
assert torch.get_num_threads() == 1
assert not torch.cuda.is_initialized()
"""
    subprocess.run([sys.executable, "-c", script], env=trainer_environment(), check=True, timeout=60)


def test_a_process_with_further_threads_refuses_to_be_warmed_up() -> None:
    script = """
import threading
from workers import training
threading.Thread(target=threading.Event().wait, daemon=True).start()
training.warm()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=trainer_environment(), capture_output=True, text=True, timeout=60
    )
    assert "2 threads before a fork" in done.stderr

"""What a plan says is what the run did, and a training that was interrupted is one that was not."""

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shelves
import torch
from shelves import Shelf

from service import plan as plans
from service.checkpoints import WEIGHTS
from service.spec import EarlyStopping
from workers import checkpoints
from workers.checkpoints import STATE, Dump
from workers.training import loop, state, weights
from workers.training.preparation import Training
from workers.training.stopping import Patience, improves

# Thirty combinations of samples, batch size, epochs, drop_last and accumulation.

COMBINATIONS = [
    (rows, batch, epochs, drop_last, parts)
    for (rows, batch), epochs, (drop_last, parts) in itertools.product(
        [(100, 10), (103, 16), (64, "full"), (50, 64), (41, 7)], [1, 3], [(False, 1), (True, 2), (False, 5)]
    )
    if not (drop_last and rows == 50)
] + [(10, 8, 2, True, 16), (10, 3, 4, False, 3)]


def test_there_are_thirty_combinations() -> None:
    assert len(set(COMBINATIONS)) == 30


@pytest.mark.parametrize(("rows", "batch", "epochs", "drop_last", "parts"), COMBINATIONS)
def test_every_number_of_the_plan_is_what_the_run_did(
    tmp_path: Path, rows: int, batch: Any, epochs: int, drop_last: bool, parts: int
) -> None:
    chosen = {
        "batch_size": batch,
        "epochs": epochs,
        "drop_last": drop_last,
        "gradient_accumulation": parts,
        "warmup_steps": 3,
    }
    training = shelves.table(tmp_path / "d", rows=rows).prepared(model={"type": "linear"}, hyperparameters=chosen)
    plan, passes = training.plan, []
    training.model.register_forward_hook(lambda _, inputs, __: passes.append((torch.is_grad_enabled(), len(inputs[0]))))
    steps, seen, own = [], [], []
    for step in loop.train(training):
        steps.append(step)
        sizes = [size for training_pass, size in passes if training_pass]
        assert sum(sizes) == step.samples
        assert max(sizes) - min(sizes) <= 1
        seen.append(len(sizes))
        own.append(sum(sizes))
        passes.clear()

    full = [place for place, step in enumerate(steps) if step.samples == plan.batch_size]
    not_counted = {"warmup_steps", "estimated_seconds", "estimate_basis", "estimated_start_at"}
    assert plan.model_dump(exclude=not_counted) == {
        "train_samples": len(training.train),
        "validation_samples": len(training.validation),
        "batch_size": max(step.samples for step in steps),
        "steps_per_epoch": len(steps) // epochs,
        "last_batch_samples": steps[-1].samples,
        "epochs": epochs,
        "total_steps": len(steps),
        "total_samples": sum(step.samples for step in steps),
        "processes": training.crew.count,
        "samples_per_process": max(own),
        "micro_batches_per_step": seen[full[0]],
        "validations": sum(step.validation is not None for step in steps),
    }
    assert plan.warmup_steps == min(3, len(steps))
    assert sum(step.learning_rate < 0.001 for step in steps) == min(2, len(steps))
    assert {seen[place] for place in full} == {plan.micro_batches_per_step}


def test_each_sample_of_an_epoch_is_used_once_whatever_the_parts(tmp_path: Path) -> None:
    training = shelves.table(tmp_path / "d").prepared(hyperparameters={"epochs": 1, "gradient_accumulation": 7})
    used: Counter[tuple[float, ...]] = Counter()
    training.model.register_forward_hook(
        lambda _, inputs, __: used.update(map(tuple, inputs[0].tolist())) if torch.is_grad_enabled() else None
    )
    list(loop.train(training))
    assert used == Counter(map(tuple, training.train.inputs.tolist()))


# Interrupted twice in the middle of an epoch, each time in a training that is built anew


def interrupted(make: Callable[[], Training], folder: Path, at: tuple[int, ...]) -> tuple[list[float], list[Any]]:
    """(losses, validations) of a training that is lost after some steps more than each of its checkpoints has."""
    losses: list[float] = []
    looks: list[Any] = []
    first = 1
    for attempt, last in enumerate([*at, 10**9]):
        training = make()
        if attempt:
            assert state.restore(training, state.load(folder / f"a{attempt}-s{first - 1}"), "sha") == []
        done = first - 1
        for step in loop.train(training, first):
            if step.number <= last:
                losses.append(step.loss.item())
                looks.append(step.validation)
            if step.number == last:
                taken = state.capture(training, last, "sha")
                facts = {"active_seconds": 1.0, "epoch": 1.0, "metrics": {}, "is_best": False}
                dumps: dict[str, Dump] = {
                    STATE: partial(state.save, taken),
                    WEIGHTS: partial(weights.save, weights.copied(training), weights.described(training, last)),
                }
                checkpoints.write(folder, attempt + 1, last, facts, dumps)
                done = last
            if step.number == last + 3:  # what came after the checkpoint is lost
                break
        first = done + 1
    return losses, looks


SGD, STEPS = {"optimizer": "sgd", "momentum": 0.9}, 40
DROPOUT = {"type": "mlp", "hidden_sizes": [8], "dropout": 0.3, "normalization": "batch"}
GPT = {"type": "gpt", "layers": 1, "heads": 2, "width": 8, "context": 8, "dropout": 0.2}
MODELS: dict[str, dict[str, Any]] = {
    "classification": DROPOUT,
    "regression": DROPOUT,
    "images": {"type": "cnn", "width": 4},
    "language_modeling": GPT,
}
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
SCHEDULES = ("constant", "linear", "cosine", "step", "exponential", "one_cycle")
PRECISIONS = ("float32", "bfloat16", "float16")
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    **{name: ("classification", DROPOUT, {"optimizer": name}) for name in OPTIMIZERS},
    **{
        name: ("regression", {"type": "linear"}, {**SGD, "lr_schedule": name, "learning_rate": 0.01})
        for name in SCHEDULES
    },
    **{
        f"{task} {precision}": (task, model, {"precision": precision, "gradient_accumulation": 3})
        for task, model in MODELS.items()
        for precision in PRECISIONS
    },
}


def shelf_of(task: str, folder: Path) -> Shelf:
    match task:
        case "images":
            return shelves.images(folder)
        case "language_modeling":
            return shelves.text(folder)
        case _:
            return shelves.table(folder, task)


@pytest.mark.parametrize("case", list(CASES))
def test_killed_twice_in_the_middle_of_an_epoch_the_curve_is_the_undisturbed_one_bit_for_bit(
    tmp_path: Path, case: str
) -> None:
    expect_one_curve(tmp_path, *CASES[case])


@pytest.mark.chaos
@pytest.mark.parametrize("task", list(MODELS))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_optimizer_and_schedule_goes_on_bit_for_bit_for_every_task_and_precision(
    tmp_path: Path, task: str, precision: str
) -> None:
    for optimizer, schedule in itertools.product(OPTIMIZERS, SCHEDULES):
        chosen = {"optimizer": optimizer, "lr_schedule": schedule, "precision": precision, "learning_rate": 0.01}
        expect_one_curve(tmp_path / f"{optimizer} {schedule}", task, MODELS[task], chosen)


def expect_one_curve(folder: Path, task: str, model: dict[str, Any], chosen: dict[str, Any]) -> None:
    """Whether it is interrupted or not."""
    shelf = shelf_of(task, folder / "d")
    warm_up = {} if chosen.get("lr_schedule") == "one_cycle" else {"warmup_steps": 4}
    chosen = {"max_steps": STEPS, "batch_size": 16, "max_grad_norm": 1.0, **warm_up, **chosen}

    def make() -> Training:
        return shelf.prepared(model=model, hyperparameters=chosen, validation={"every_steps": 5})

    steps = list(loop.train(make()))
    losses, looks = interrupted(make, folder / "kept", (11, 26))
    assert losses == torch.stack([step.loss for step in steps]).tolist()
    assert looks == [step.validation for step in steps]


# Early stopping


def test_patience_counts_validations_without_an_improvement_by_more_than_min_delta() -> None:
    patience = Patience(EarlyStopping(metric="val_loss", patience=3, min_delta=0.1))
    for step, value in enumerate([1.0, 0.95, float("nan"), 0.89, 0.85, 0.8, 0.795], start=1):
        assert not patience.over
        patience.look(step, {"val_loss": value})
    assert (patience.best, patience.best_step, patience.step) == (0.89, 4, 7)
    assert patience.told() == (
        "stopped early after step 7: val_loss has not improved on 0.89 of step 4 for 3 validations"
    )


def test_what_is_better_depends_on_the_metric() -> None:
    assert improves("val_loss", 1.0, 2.0)
    assert not improves("val_accuracy", 1.0, 2.0)
    assert improves("val_accuracy", 2.0, 1.0)
    assert not improves("val_accuracy", 2.0, 2.0)
    assert improves("val_loss", 1.0, None)
    assert not improves("val_loss", float("nan"), None)


def stopped(shelf: Shelf, **early: Any) -> Training:
    chosen = {"epochs": 50, "learning_rate": 0.3, "lr_schedule": "constant"}
    return shelf.prepared(hyperparameters=chosen, early_stopping=early, validation={"every_steps": 1, "fraction": 0.3})


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy"])
def test_a_training_ends_when_its_patience_is_used_up(tmp_path: Path, metric: str) -> None:
    training = stopped(shelves.table(tmp_path / "d"), metric=metric, patience=4)
    values = [(step.validation or {})[metric] for step in loop.train(training)]
    best = int(np.argmin(values) if metric == "val_loss" else np.argmax(values))
    assert len(values) == best + 1 + 4 < training.plan.total_steps
    assert training.patience is not None
    assert (training.patience.best_step, training.patience.step) == (best + 1, len(values))
    assert list(loop.train(training, len(values) + 1)) == []


def test_patience_is_a_part_of_what_a_checkpoint_keeps(tmp_path: Path) -> None:
    shelf = shelves.table(tmp_path / "d")
    undisturbed = [step.loss.item() for step in loop.train(stopped(shelf, patience=4))]
    assert len(undisturbed) > 6
    ends = (len(undisturbed) - 4, len(undisturbed) - 1)
    losses, _ = interrupted(lambda: stopped(shelf, patience=4), tmp_path / "kept", ends)
    assert losses == undisturbed


def test_micro_batches_are_as_many_as_asked_for_and_none_is_empty() -> None:
    assert [plans.micro_batches(10, parts) for parts in (1, 3, 10, 11)] == [1, 3, 10, 10]

"""Trainers that are killed twice in the middle of an epoch, under a worker: with the curves of undisturbed twins.

Optimizers, schedules, precisions and tasks in so few jobs that each two of them meet in one. All combinations are tried
without processes, in test_exactness.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import shelves
from boxes import dawdling
from conftest import Until
from sqlalchemy import select
from test_checkpoints import told
from test_exactness import MODELS, OPTIMIZERS, PRECISIONS, SCHEDULES, shelf_of
from test_worker import LONG_LEASE, Place

from service.states import JobStatus
from service.tables import Job, Point, Series

STEPS, EVERY = 40, 7
KILLED_AT = (18, 33)  # by the fault; a checkpoint is on the disk, at the latest, when the next one but one begins

Combination = tuple[str, str, str, str]
Curves = dict[str, list[tuple[int, float | None]]]


def pairwise() -> list[Combination]:
    """Few combinations in which each two values meet that can, taken one after another for what is still missing."""
    everything = list(itertools.product(OPTIMIZERS, SCHEDULES, PRECISIONS, MODELS))
    missing = {pair for each in everything for pair in pairs(each)}
    chosen = []
    while missing:
        best = max(everything, key=lambda each: len(missing & pairs(each)))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def pairs(combination: Combination) -> set[Any]:
    return {*itertools.combinations(enumerate(combination), 2)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, until: Until) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("killed")
    with Place.opened(folder, until) as made:
        for task in MODELS:
            shelves.put(made.settings, shelf_of(task, folder / task), task)
        with made.worker(**LONG_LEASE):
            yield made


def spec_of(combination: Combination) -> dict[str, Any]:
    optimizer, schedule, precision, task = combination
    chosen = {"optimizer": optimizer, "lr_schedule": schedule, "precision": precision, "learning_rate": 0.01}
    warm_up = {} if schedule == "one_cycle" else {"warmup_steps": 4}
    return {
        "task": "classification" if task == "images" else task,
        "dataset": task,
        "model": MODELS[task],
        "hyperparameters": {"max_steps": STEPS, "batch_size": 16, "max_grad_norm": 1.0, **warm_up, **chosen},
        "validation": {"every_steps": 5},
        "checkpoints": {"every_steps": EVERY},
    }


def all_curves(place: Place, job_id: str) -> Curves:
    """What is not of the machine."""
    query = (
        select(Series.name, Point.step, Point.value)
        .join(Series, Series.id == Point.series)
        .join(Job, Job.seq == Series.run)
        .where(Job.id == job_id, Series.name != "samples_per_second", Series.name.not_like("system/%"))
        .order_by(Series.name, Point.position)
    )
    found: Curves = {}
    with place.database.read() as session:
        for name, step, value in session.execute(query):
            found.setdefault(name, []).append((step, value))
    return found


@pytest.mark.parametrize("jobs", [3, pytest.param(None, marks=pytest.mark.chaos)])
def test_killed_twice_in_the_middle_of_an_epoch_every_curve_is_that_of_an_undisturbed_job(
    place: Place, jobs: int | None
) -> None:
    submitted = [
        (each, place.submit(spec_of(each)), place.submit(dawdling(spec_of(each), "kill_itself_twice")))
        for each in pairwise()[:jobs]
    ]
    for combination, twin, job_id in submitted:
        assert place.ended(twin).status is JobStatus.SUCCEEDED, combination
        job = place.ended(job_id)
        assert [end for _, end in place.attempts(job_id)] == ["worker_lost", "worker_lost", "succeeded"], combination
        resumed = [event.data for event in told(place, job_id, "resumed")]
        assert all(each["exact"] and each["step"] % job.plan["steps_per_epoch"] for each in resumed), resumed
        for at, each in zip(KILLED_AT, resumed, strict=True):
            assert at - 2 * EVERY < each["step"] < at
        curves = all_curves(place, job_id)
        assert curves == all_curves(place, twin), combination
        assert {"train_loss", "val_loss", "grad_norm", "learning_rate"} <= curves.keys()
        assert [step for step, _ in curves["train_loss"]] == list(range(1, STEPS + 1))

"""Several processes that train one job together: the curve of one process, the same bits after a resume, one end."""

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from boxes import dawdling, digits
from conftest import Box, Until
from sqlalchemy import select
from test_checkpoints import act, moody, paused, states, told
from test_worker import ADMIN, ENDLESS, LONG_LEASE, Place, Process, gone, is_alive, small

from service import control, curves, intake, plan as plans, raw_spec
from service.errors import InvalidInput
from service.states import EndReason, JobStatus
from service.tables import Job, Point, Series
from workers import crew
from workers.trainer import Order
from workers.training import lines

TOGETHER = {"resources": {"processes": 2}}
LOST_SECONDS = 10  # for a crew to end that has lost a process, on a busy machine
STALL_SECONDS = 5


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, until: Until) -> Iterator[Place]:
    with Place.opened(tmp_path_factory.mktemp("together"), until) as made:
        yield made


@pytest.fixture(scope="module")
def shared(place: Place) -> Iterator[Process]:
    with place.worker(TRAINBOX_SLOTS="3", TRAINBOX_STALL_SECONDS=str(STALL_SECONDS), **LONG_LEASE) as process:
        yield process


@pytest.fixture(autouse=True)
def _worker(request: pytest.FixtureRequest) -> None:
    if "place" in request.fixturenames:
        request.getfixturevalue("shared")


def curve(place: Place, job_id: str, name: str) -> list[float]:
    query = select(Point.value).join(Series, Series.id == Point.series).join(Job, Job.seq == Series.run)
    with place.database.read() as session:
        found = session.scalars(query.where(Job.id == job_id, Series.name == name).order_by(Point.position)).all()
    return [value for value in found if value is not None]


def members(place: Place, job_id: str, attempt: int = 1) -> list[psutil.Process]:
    """The processes that compute, the leader first."""
    found = place.trainer(job_id, attempt).children()
    assert len(found) == place.job(job_id).plan["processes"]
    return sorted(found, key=lambda process: process.pid)


# The same training


@pytest.mark.parametrize(
    "spec",
    [
        # 120 samples in batches of 7: the last one of an epoch is a lone sample, and one process has none.
        small(60, model={"type": "mlp", "hidden_sizes": [16]}, hyperparameters={"max_steps": 60, "batch_size": 7}),
        small(
            60,
            hyperparameters={"max_steps": 60, "batch_size": 33, "gradient_accumulation": 3, "max_grad_norm": 0.1},
            early_stopping={"patience": 2},
            validation={"every_steps": 10},
        ),
        {
            "task": "regression",
            "dataset": "diabetes",
            "hyperparameters": {"max_steps": 60, "batch_size": "full", "optimizer": "sgd", "drop_last": True},
        },
    ],
)
def test_two_processes_give_the_curves_of_one(place: Place, spec: dict[str, Any]) -> None:
    alone, together = place.submit(spec), place.submit(spec | TOGETHER)
    jobs = [place.ended(job_id) for job_id in (alone, together)]
    assert {job.status for job in jobs} == {JobStatus.SUCCEEDED}
    assert jobs[0].step == jobs[1].step
    counts = [job.plan for job in jobs]
    apart = {"processes", "samples_per_process", "micro_batches_per_step", "estimated_seconds", "estimate_basis"}
    assert {name: counts[0][name] for name in counts[0].keys() - apart} == {
        name: counts[1][name] for name in counts[1].keys() - apart
    }
    assert (counts[1]["processes"], counts[1]["samples_per_process"]) == (2, -(-counts[1]["batch_size"] // 2))
    with place.database.read() as session:
        names = curves.find(session, [jobs[1].seq])[jobs[1].seq].keys()
    assert "grad_norm" in names
    for name in sorted(names - {"samples_per_second"}):
        if not name.startswith("system/"):
            assert curve(place, together, name) == pytest.approx(curve(place, alone, name), rel=2e-5, abs=2e-6), name


# Interrupted


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.chaos)])
def test_what_several_processes_train_comes_out_the_same_bits_whoever_of_them_is_killed(
    place: Place, processes: int
) -> None:
    spec = moody(600) | {"resources": {"processes": processes}}
    twin, job_id = place.submit(spec), place.submit(dawdling(spec, "dawdle_each_time"))
    assert place.ended(twin).status is JobStatus.SUCCEEDED
    for attempt, step in ((1, 60), (2, 160), (3, 260)):
        place.until(lambda step=step: place.job(job_id).step >= step)  # type: ignore[misc]
        crew = [*members(place, job_id, attempt), place.trainer(job_id, attempt)]
        began = time.monotonic()
        crew[-attempt].kill()
        assert gone(crew)
        assert time.monotonic() - began < LOST_SECONDS
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert place.losses(job_id) == place.losses(twin)
    assert [end for _, end in place.attempts(job_id)] == ["worker_lost"] * 3 + ["succeeded"]
    resumed = told(place, job_id, "resumed")
    assert len(resumed) == 3
    assert all(event.data["exact"] for event in resumed)


def test_processes_that_are_paused_together_go_on_at_their_very_step(place: Place) -> None:
    spec = moody(600, every=None) | TOGETHER
    twin, job_id = place.submit(spec), paused(place, spec, after=100)
    job = place.job(job_id)
    assert (job.status, job.checkpoint_step) == (JobStatus.PAUSED, job.step)
    act(place, job_id, control.resume)
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert [event.data for event in told(place, job_id, "resumed")] == [{"step": job.step, "exact": True}]
    assert place.ended(twin).status is JobStatus.SUCCEEDED
    assert place.losses(job_id) == place.losses(twin)


def test_a_cancelled_crew_keeps_its_last_state_and_is_gone(place: Place) -> None:
    job_id = place.submit(small(ENDLESS, **TOGETHER))
    crew = members(place, job_id)
    assert place.job(job_id).threads == 2
    place.cancel(job_id)
    job = place.ended(job_id)
    assert (job.status, place.attempts(job_id)) == (JobStatus.CANCELLED, [(1, "cancelled")])
    assert not any(is_alive(process) for process in crew)
    assert [row.step for row in states(place, job_id)] == [job.step]


def test_a_job_ends_as_the_process_did_that_ended_first(place: Place) -> None:
    job_id = place.submit(small(ENDLESS, **TOGETHER))
    crew = members(place, job_id)
    crew[1].send_signal(signal.SIGSEGV)
    job = place.ended(job_id)
    assert (job.status, job.error_code, job.signal) == (JobStatus.FAILED, EndReason.ERROR, signal.SIGSEGV)
    assert not any(is_alive(process) for process in crew)


def test_what_a_process_has_told_before_it_was_lost_is_heard_and_nothing_is_waited_for(tmp_path: Path) -> None:
    met = threading.Barrier(2)

    def follow() -> None:
        [line] = lines.lay(tmp_path / "meeting", 1, 2, met.wait)
        assert line.hear() == 7
        for loss in (0.1, math.nan):
            line.say_loss(loss)
        os.close(line.heard)
        os.close(line.said)

    follower = threading.Thread(target=follow)
    follower.start()
    [line] = lines.lay(tmp_path / "meeting", 0, 2, met.wait)
    line.say(bytes([7]))
    follower.join()
    np.testing.assert_array_equal(line.hear_losses(3), [0.1, math.nan])
    assert len(line.hear_losses(1)) == 0
    for say_or_hear in (line.hear, lambda: line.say(bytes([7]))):
        with pytest.raises(lines.LineCut):
            say_or_hear()
    assert list(tmp_path.iterdir()) == []
    os.close(line.heard)
    os.close(line.said)


class Mortal(list[ForkProcess]):
    """Processes, one of which is killed the moment before they are gone through for the nth time."""

    def __init__(self, members: Iterable[ForkProcess], victim: int, nth: int) -> None:
        super().__init__(members)
        self._victim, self._nth = victim, nth

    def __iter__(self) -> Iterator[ForkProcess]:
        self._nth -= 1
        if self._nth == 0:
            self[self._victim].kill()
            self[self._victim].join()
        return super().__iter__()


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("nth", [1, 2])
def test_no_end_of_a_process_falls_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: int, nth: int
) -> None:
    monkeypatch.setattr(crew, "SETTLE_SECONDS", 0.0)
    order = Order("", 1, {}, {}, None, "", "", "", [], "", "", str(tmp_path / "outcome.json"), "cpu")
    members = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,)) for _ in range(2)]
    for member in members:
        member.start()
    lifeline, alive = os.pipe()
    in_vain = threading.Timer(20, os.close, [alive])  # then it takes the worker for dead, and the leader's word
    in_vain.start()
    try:
        assert crew._decided(order, Mortal(members, victim, nth), lifeline) == victim
        assert members[victim].exitcode == -signal.SIGKILL
        assert in_vain.is_alive()
    finally:
        in_vain.cancel()
        for member in members:
            member.kill()


def test_a_loss_that_is_not_finite_ends_all_of_them_with_one_reason(place: Place) -> None:
    chosen = {"max_steps": 500, "batch_size": 16, "learning_rate": 100.0, "optimizer": "sgd"}
    spec = {"task": "regression", "dataset": "diabetes", "model": {"type": "linear"}, "hyperparameters": chosen}
    job = place.ended(place.submit(spec | TOGETHER))
    assert (job.status, job.error_code) == (JobStatus.FAILED, EndReason.NON_FINITE)
    assert len(place.losses(job.id)) == job.step


@pytest.mark.chaos
def test_a_process_that_stands_still_stalls_them_all(place: Place) -> None:
    job_id = place.submit(small(ENDLESS, **TOGETHER))
    crew = members(place, job_id)
    crew[1].suspend()
    place.until(lambda: place.attempts(job_id)[0][1] == "stalled")
    assert gone(crew)
    place.cancel(job_id)
    place.ended(job_id)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.chaos), signal.SIGKILL])
def test_a_crew_does_not_outlive_its_worker(place: Place, number: signal.Signals) -> None:
    with place.slots_taken(3) as free:
        with place.worker() as other:
            job_id = place.submit(dawdling(moody(400, every=None) | TOGETHER))
            crew = members(place, job_id)
            other.send_signal(number)
            other.wait(20)
            assert gone(crew)
        free()
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert [step for step, _ in place.losses(job_id)] == list(range(1, 401))
    assert place.attempts(job_id)[0][1] == ("drained" if number is signal.SIGTERM else "worker_lost")


def test_only_this_machine_can_speak_to_a_crew(place: Place) -> None:
    job_id = place.submit(small(ENDLESS, **TOGETHER))
    for process in members(place, job_id):
        addresses = [each.laddr.ip for each in process.net_connections("inet")]
        assert addresses
        assert set(addresses) <= {"127.0.0.1", "::1"}
        assert os.getpgid(process.pid) == place.trainer(job_id).pid
    place.cancel(job_id)
    place.ended(job_id)


# Refused


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"resources": {"processes": 4}}, "resources.processes", "never_available"),
        ({"resources": {"processes": 2, "threads": 2}}, "resources.processes", "never_available"),
        ({"resources": {"processes": 3, "gpus": 2}}, "resources.processes", "one_for_each_gpu"),
        ({"resources": {"processes": 2, "gpus": 0.5}}, "resources.processes", "one_for_each_gpu"),
        ({"resources": {"gpus": 1.5}}, "resources.gpus", "int_type"),
        ({"resources": {"processes": 0}}, "resources.processes", "greater_than_equal"),
        (
            {"resources": {"processes": 3}, "hyperparameters": {"batch_size": 2}},
            "resources.processes",
            "more_than_samples",
        ),
        (
            {
                "resources": {"processes": 2},
                "hyperparameters": {"batch_size": 3},
                "model": {"type": "mlp", "normalization": "batch"},
            },
            "model.normalization",
            "lone_sample",
        ),
    ],
)
def test_what_cannot_be_trained_together_is_refused(
    place: Place, changes: dict[str, Any], param: str, code: str
) -> None:
    with place.database.read() as session, pytest.raises(InvalidInput) as refused:
        intake.draft(session, ADMIN, small(5) | changes)
    assert (param, code) in [(problem.param, problem.code) for problem in refused.value.problems]


def test_several_gpus_are_one_process_each() -> None:
    spec = raw_spec.parse(small(5, resources={"gpus": 4, "threads": 2}), lambda _: [])
    assert spec.resources.processes == 4
    assert plans.make(spec, 150).samples_per_process == 4


def test_processes_together_are_not_probed(box: Box) -> None:
    answer = box.admin.post("/v1/jobs?dry_run=true&probe=true", json=digits() | TOGETHER)
    assert answer.status_code == 422
    assert [problem["param"] for problem in answer.json()["errors"]] == ["probe"]

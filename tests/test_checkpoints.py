"""Training that was interrupted goes on at the very step, with the very losses, whatever became of its files."""

import hashlib
import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aftermath
import httpx
import numpy as np
import psutil
import pytest
import torch
from boxes import dawdling, digits, finish, submit as post, train, values
from conftest import Box, Until
from sklearn.datasets import load_digits
from sqlalchemy import select
from test_worker import ENDLESS, LONG_LEASE, Place, Process, small

from service import bell, checkpoints as kept, control, curves, plan as plans, raw_spec
from service.api.checkpoints import CheckpointList
from service.states import EndReason, JobStatus, Scope
from service.tables import Checkpoint, Job, JobEvent
from service.users import Principal
from workers import checkpoints
from workers.training import data, loop, preparation, state, weights
from workers.training.loop import Step
from workers.training.preparation import Training

ADMIN = Principal("admin", Scope.ADMIN, "")
STEPS = 1000
EVERY = 50

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
Spec = dict[str, Any]
FACTS: Spec = {"active_seconds": 1.0, "epoch": 2.3, "metrics": {}, "is_best": False}


def moody(steps: int = STEPS, every: int | None = EVERY, keep: int = 2, **hyperparameters: Any) -> Spec:
    """A job whose losses hang on all that a checkpoint holds: dropout, momentum, order and schedule."""
    return small(
        steps,
        model={"type": "mlp", "hidden_sizes": [16], "dropout": 0.3},
        hyperparameters={"max_steps": steps, "batch_size": 16, "lr_schedule": "cosine", **hyperparameters},
        checkpoints={"every_steps": every, "keep": keep},
        limits={"max_attempts": 50},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, until: Until) -> Iterator[Place]:
    with Place.opened(tmp_path_factory.mktemp("kept"), until) as made:
        yield made


@pytest.fixture(scope="module")
def shared(place: Place) -> Iterator[Process]:
    with place.worker(**LONG_LEASE) as process:
        yield process


@pytest.fixture(autouse=True)
def _swept(request: pytest.FixtureRequest) -> Iterator[None]:
    if "place" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("shared")
    yield
    aftermath.check(request.getfixturevalue("place").settings)


@pytest.fixture(scope="module")
def twin(place: Place, shared: Process) -> list[tuple[int, float | None]]:
    """The losses of the job when nothing happens to it."""
    job_id = place.submit(moody())
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    losses = place.losses(job_id)
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))
    return losses


def folder(place: Place, job_id: str) -> Path:
    return kept.folder(place.settings.jobs_path, job_id)


def rows(place: Place, job_id: str) -> list[Checkpoint]:
    query = select(Checkpoint).join(Job, Job.seq == Checkpoint.job).where(Job.id == job_id)
    with place.database.read() as session:
        return list(session.scalars(query.order_by(Checkpoint.step.desc())))


def states(place: Place, job_id: str) -> list[Checkpoint]:
    """Those to go on from: the weights of the best validation may lie between them."""
    return [row for row in rows(place, job_id) if row.resumable]


def told(place: Place, job_id: str, code: str) -> list[JobEvent]:
    query = select(JobEvent).join(Job, Job.seq == JobEvent.job).where(Job.id == job_id, JobEvent.code == code)
    with place.database.read() as session:
        return list(session.scalars(query.order_by(JobEvent.id)))


def act(place: Place, job_id: str, what: Callable[..., None]) -> None:
    with place.database.write() as session:
        what(session, ADMIN, job_id)
    bell.ring(place.settings.run_path)


def kill(place: Place, job_id: str) -> int:
    """Kills the trainer that is at work, unless it has just ended; the attempt that it was."""
    attempt = place.job(job_id).attempt
    with suppress(psutil.NoSuchProcess):
        place.trainer(job_id, attempt).kill()
    place.until(lambda: place.attempts(job_id)[attempt - 1][1])
    return attempt


def paused(place: Place, spec: Spec, after: int) -> str:
    """A job that was paused after so many steps at least."""
    job_id = place.submit(dawdling(spec))
    place.until(lambda: place.job(job_id).step >= after)
    with suppress(psutil.NoSuchProcess):  # it goes on when it is asked to stop: the job is not over before that
        place.trainer(job_id).suspend()
    act(place, job_id, control.pause)
    place.until(lambda: place.job(job_id).status is not JobStatus.RUNNING)
    return job_id


# A whole state, in one process


def steps_of(training: Training, first: int, last: int) -> list[float]:
    found: list[Step] = []
    for step in loop.train(training, first):
        found.append(step)
        if step.number == last:
            break
    return torch.stack([step.loss for step in found]).tolist()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_restored_training_gives_the_losses_of_an_undisturbed_one(tmp_path: Path, optimizer: str) -> None:
    chance = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", chance.standard_normal((200, 6)).astype(np.float32))
    np.save(tmp_path / "y.npy", chance.integers(0, 3, 200))
    spec = raw_spec.parse(moody(60, optimizer=optimizer, max_grad_norm=1.0, warmup_steps=5), lambda _: [])
    plan = plans.make(spec, 200)

    undisturbed = steps_of(preparation.prepare(spec, plan, tmp_path, 3), 1, 60)
    training = preparation.prepare(spec, plan, tmp_path, 3)
    before = steps_of(training, 1, 23)  # in the middle of an epoch
    taken = state.capture(training, 23, "sha")
    tensors, told = weights.copied(training), weights.described(training, 23)
    dumps = {
        "state.pt": lambda file: state.save(taken, file),
        "weights.safetensors": lambda file: weights.save(tensors, told, file),
    }
    checkpoints.write(tmp_path / "kept", 1, 23, FACTS, dumps)
    noise = random.random(), np.random.random(), torch.rand(1).item()

    again = preparation.prepare(spec, plan, tmp_path, 3)
    found = checkpoints.read(tmp_path / "kept", 1, 23)
    path = checkpoints.verified(tmp_path / "kept", found.kept)
    assert state.restore(again, state.load(path), "sha") == []
    assert (random.random(), np.random.random(), torch.rand(1).item()) == noise
    assert state.restore(again, state.load(path), "sha") == []
    assert before + steps_of(again, 24, 60) == undisturbed


def test_surroundings_that_differ_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(20, dtype=np.float32))
    np.save(tmp_path / "y.npy", np.arange(20) % 2)
    spec = raw_spec.parse(moody(5), lambda _: [])
    training = preparation.prepare(spec, plans.make(spec, 20), tmp_path, 2)
    taken = state.capture(training, 1, "sha") | {"model": training.model.state_dict()}
    held_back = training.preprocessing["split"]["sha256"]
    taken["surroundings"] |= {"torch": "1.0", "threads": "7", "processes": "2", "split": "abc"}
    assert state.restore(training, taken, "sha") == [
        f"torch is {torch.__version__} and was 1.0",
        "threads is 1 and was 7",
        "processes is 1 and was 2",
        f"split is {held_back} and was abc",
    ]


def test_a_disk_that_fails_once_is_tried_again_and_one_that_fails_twice_leaves_nothing(tmp_path: Path) -> None:
    failures = [OSError(5, "Input/output error")]

    def dump(file: checkpoints.Digesting) -> None:
        file.write(b"half")
        if failures:
            raise failures.pop()
        file.write(b" and half")

    place = checkpoints.write(tmp_path, 1, 7, FACTS, {"state.pt": dump})
    assert (place / "state.pt").read_bytes() == b"half and half"
    failures += [OSError(5, "Input/output error"), OSError(28, "No space left on device")]
    with pytest.raises(OSError, match="Input/output"):
        checkpoints.write(tmp_path, 1, 8, FACTS, {"state.pt": dump})
    assert [path.name for path in tmp_path.iterdir()] == ["a1-s7"]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name_and_its_name_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, draft = tmp_path / "a1-s7", tmp_path / "a1-s7.tmp"
    synced: list[tuple[Path, bool]] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), place.exists()))
        sync(descriptor)

    def dump(file: checkpoints.Digesting) -> None:
        file.write(b"whole")

    monkeypatch.setattr(os, "fsync", noted)
    assert checkpoints.write(tmp_path, 1, 7, FACTS, {"state.pt": dump}) == place
    files = [(draft / "state.pt", False), (draft / "manifest.json", False)]
    assert synced == [*files, (draft, False), (tmp_path, True)]


def test_a_state_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(canary),)

    torch.save({"model": Trap()}, tmp_path / "state.pt")
    with pytest.raises(pickle.UnpicklingError):
        state.load(tmp_path)
    assert not canary.exists()


# Killed, and gone on


@pytest.mark.parametrize(("steps", "kills"), [(STEPS, 4), pytest.param(10 * STEPS, 20, marks=pytest.mark.chaos)])
def test_a_trainer_killed_at_random_steps_leaves_the_curve_of_an_undisturbed_one(
    place: Place, steps: int, kills: int
) -> None:
    chance = random.Random(7)
    undisturbed, job_id = place.submit(moody(steps)), place.submit(dawdling(moody(steps), "dawdle_each_time"))
    for target in sorted(chance.sample(range(60, steps - 300), kills)):
        place.until(lambda target=target: place.job(job_id).step >= target)  # type: ignore[misc]
        kill(place, job_id)
    for each in (undisturbed, job_id):
        assert place.ended(each).status is JobStatus.SUCCEEDED
    assert place.losses(job_id) == place.losses(undisturbed)
    resumed = told(place, job_id, "resumed")
    assert resumed
    assert all(event.data["step"] % EVERY == 0 and event.data["exact"] for event in resumed)
    assert [row.step for row in states(place, job_id)][:2] == [steps, steps - EVERY]


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.chaos)])
@pytest.mark.timeout(1200)
def test_a_trainer_killed_the_moment_its_checkpoint_grows_goes_on_from_the_one_before(
    place: Place, rounds: int
) -> None:
    """A state of some megabytes, each step: there is always one that is being written."""
    wide = moody(100 + 30 * rounds, every=1, optimizer="adam") | {"model": {"type": "mlp", "hidden_sizes": [512, 512]}}
    undisturbed, job_id = place.submit(wide), place.submit(dawdling(wide, "dawdle_each_time"))
    torn = 0
    for target in range(10, 10 * rounds + 1, 10):
        place.until(lambda target=target: place.job(job_id).checkpoint_step > target)  # type: ignore[misc]
        place.until(lambda: place.job(job_id).status is JobStatus.RUNNING)
        attempt = place.job(job_id).attempt
        trainer = place.trainer(job_id, attempt)
        place.until(lambda: any(grows(path) for path in folder(place, job_id).glob("*.tmp")))
        trainer.kill()
        torn += bool(list(folder(place, job_id).glob("*.tmp")))
        place.until(lambda: are_whole(place, job_id))
        place.until(lambda attempt=attempt: place.attempts(job_id)[attempt - 1][1])  # type: ignore[misc]
    assert torn, "nothing was hit"
    for each in (undisturbed, job_id):
        assert place.ended(each).status is JobStatus.SUCCEEDED
    assert place.losses(job_id) == place.losses(undisturbed)
    assert not list(folder(place, job_id).glob("*.tmp"))
    assert all(event.data["exact"] for event in told(place, job_id, "resumed"))


def are_whole(place: Place, job_id: str) -> bool:
    """Whether all that are listed are there; the worker may be removing one between the two looks."""
    listed = [f"a{row.attempt}-s{row.step}" for row in states(place, job_id)]
    return all((folder(place, job_id) / name / "manifest.json").exists() for name in listed)


def grows(path: Path) -> bool:
    with suppress(OSError):
        return (path / "state.pt").stat().st_size > 0
    return False


def test_a_trainer_killed_while_it_writes_goes_on_from_the_checkpoint_before(
    place: Place, twin: list[tuple[int, float | None]]
) -> None:
    job_id = place.submit(dawdling(moody()))
    place.until(lambda: place.job(job_id).checkpoint_step)
    trainer = place.trainer(job_id)
    trainer.suspend()
    attempt = place.job(job_id).attempt
    half = folder(place, job_id) / f"a{attempt}-s{STEPS - 1}.tmp"
    half.mkdir()
    (half / "state.pt").write_bytes(b"half of a")
    whole = folder(place, job_id) / f"a{attempt}-s{STEPS - 2}"  # renamed, but the queue never heard of it
    # The newest one stays, whatever the worker still removes.
    shutil.copytree(
        max(folder(place, job_id).glob("a*-s*[0-9]"), key=lambda path: int(path.name.rpartition("s")[2])), whole
    )
    trainer.kill()
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert not half.exists()
    assert not whole.exists()
    assert told(place, job_id, "checkpoint_unusable") == []
    assert place.losses(job_id) == twin


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def delete(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    ("harm", "name"),
    [(flip, "state.pt"), (cut_off, "state.pt"), (empty, "state.pt"), (delete, "state.pt"), (flip, "manifest.json")],
)
def test_a_checkpoint_that_was_harmed_is_found_out_and_the_one_before_is_used(
    place: Place, twin: list[tuple[int, float | None]], harm: Callable[[Path], None], name: str
) -> None:
    job_id = paused(place, moody(), after=100)
    newest, before, *_ = states(place, job_id)
    harm(folder(place, job_id) / f"a{newest.attempt}-s{newest.step}" / name)
    act(place, job_id, control.resume)
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    [unusable] = told(place, job_id, "checkpoint_unusable")
    assert unusable.data == {"step": newest.step}
    [resumed] = told(place, job_id, "resumed")
    assert resumed.data == {"step": before.step, "exact": True}
    assert place.losses(job_id) == twin


def test_without_any_checkpoint_left_training_starts_from_the_first_step(
    place: Place, twin: list[tuple[int, float | None]]
) -> None:
    job_id = place.submit(dawdling(moody()))
    place.until(lambda: len(states(place, job_id)) >= 2)
    place.trainer(job_id).suspend()
    # The worker may be removing one that is no longer among the newest.
    place.until(lambda: is_wiped(folder(place, job_id)))
    place.trainer(job_id).kill()
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert len(told(place, job_id, "checkpoint_unusable")) >= 2
    assert told(place, job_id, "resumed") == []
    assert place.losses(job_id) == twin


def is_wiped(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


# Paused, drained and cancelled


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_paused_job_goes_on_at_its_very_step(place: Place, optimizer: str) -> None:
    spec = moody(every=None, optimizer=optimizer)
    undisturbed, job_id = place.submit(spec), paused(place, spec, after=100)
    job = place.job(job_id)
    assert (job.status, job.reason_code, job.pause_requested_at) == (JobStatus.PAUSED, "paused", None)
    assert job.checkpoint_step == job.step == len(place.losses(job_id))
    assert (job.excused_attempts, place.attempts(job_id)) == (1, [(1, "paused")])
    act(place, job_id, control.resume)
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert [event.data["step"] for event in told(place, job_id, "resumed")] == [job.step]
    assert place.ended(undisturbed).status is JobStatus.SUCCEEDED
    assert place.losses(job_id) == place.losses(undisturbed)
    assert place.job(job_id).active_seconds > job.active_seconds


def test_pausing_again_and_again_costs_no_attempt_and_no_step(place: Place) -> None:
    spec = moody(every=None) | {"limits": {"max_attempts": 1}}
    undisturbed, job_id = place.submit(spec), place.submit(dawdling(spec, "dawdle_each_time"))
    for after in (100, 300, 500):
        place.until(lambda after=after: place.job(job_id).step >= after)  # type: ignore[misc]
        act(place, job_id, control.pause)
        place.until(lambda: place.job(job_id).status is JobStatus.PAUSED)
        act(place, job_id, control.resume)
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert place.ended(undisturbed).status is JobStatus.SUCCEEDED
    assert place.losses(job_id) == place.losses(undisturbed)


def test_cancel_beats_pause(place: Place) -> None:
    job_id = place.submit(moody(ENDLESS, every=None))
    place.until(lambda: place.job(job_id).step)
    with place.database.write() as session:
        control.pause(session, ADMIN, job_id)
        control.cancel(session, ADMIN, job_id)
    bell.ring(place.settings.run_path)
    job = place.ended(job_id)
    assert (job.status, job.pause_requested_at) == (JobStatus.CANCELLED, None)
    assert [row.step for row in states(place, job_id)] == [job.step]


def test_a_drained_job_goes_on_where_it_was(place: Place, twin: list[tuple[int, float | None]]) -> None:
    with place.slots_taken(2) as free:
        with place.worker() as other:
            job_id = place.submit(dawdling(moody(every=None)))
            place.until(lambda: place.job(job_id).step >= 100)
            other.terminate()
            assert other.wait(20) == 0
        job = place.job(job_id)
        assert (job.status, job.reason_code) == (JobStatus.QUEUED, "drained")
        assert job.checkpoint_step == job.step == len(place.losses(job_id))
        free()
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    assert place.losses(job_id) == twin


# What is kept


def test_the_list_is_what_lies_on_the_disk_and_holds_the_newest_and_the_best(place: Place) -> None:
    spec = moody(2000, every=100, keep=3, learning_rate=0.05) | {"validation": {"every_steps": 100, "fraction": 0.2}}
    job_id = place.submit(spec)
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    found = rows(place, job_id)
    assert [row.step for row in found if row.resumable][:3] == [2000, 1900, 1800]
    assert {path.name for path in folder(place, job_id).iterdir()} == {f"a1-s{row.step}" for row in found}
    for row in found:
        made = checkpoints.read(folder(place, job_id), row.attempt, row.step)
        assert (row.sha256, row.bytes, row.metrics) == (made.kept.sha256, made.size, made.metrics)
        weights = folder(place, job_id) / made.kept.name / "weights.safetensors"
        assert row.bytes == weights.stat().st_size
        assert row.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert checkpoints.verified(folder(place, job_id), made.kept)
    [best] = [row for row in found if row.is_best]
    assert best.metrics["val_loss"] == min(row.metrics["val_loss"] for row in found)


def test_a_short_job_leaves_its_last_state_and_the_best_of_all_its_validations(place: Place) -> None:
    job_id = place.submit(small(200, validation={"every_steps": 7}))
    assert place.ended(job_id).status is JobStatus.SUCCEEDED
    with place.database.read() as session:
        seq = session.scalars(select(Job.seq).where(Job.id == job_id)).one()
        loss = curves.find(session, [seq])[seq]["val_loss"]
    found = rows(place, job_id)
    assert found[0].step == 200
    assert {row.step for row in found} == {200, loss.min_step}
    [best] = [row for row in found if row.is_best]
    assert (best.step, best.metrics["val_loss"]) == (loss.min_step, loss.min)


def test_data_that_was_changed_between_two_attempts_is_refused(place: Place) -> None:
    job_id = paused(place, moody(), after=100)
    data = place.settings.datasets_path / place.job(job_id).dataset_id / "x.npy"
    before = data.read_bytes()
    flip(data)
    try:
        act(place, job_id, control.resume)
        job = place.ended(job_id)
    finally:
        data.write_bytes(before)
    assert (job.status, job.error_code) == (JobStatus.FAILED, EndReason.INPUT_CHANGED)
    assert len(place.losses(job_id)) == job.step, "what was trained on the data stays"


# Over HTTP


def test_a_job_is_paused_looked_at_and_resumed_over_http(admin: httpx.Client, until: Until) -> None:
    def look() -> Spec:
        found: Spec = admin.get(f"/v1/jobs/{job['id']}").json()
        return found

    job = post(admin, dawdling(digits(epochs=100)))
    until(lambda: (look()["progress"] or {"step": 0})["step"] > 20)
    asked = admin.post(f"/v1/jobs/{job['id']}/pause")
    assert asked.status_code == 202
    assert (asked.json()["status"], asked.json()["status_reason"]["code"]) == ("running", "pausing")
    until(lambda: look()["status"] == "paused")
    step = look()["progress"]["step"]
    assert len(values(admin, job)["step"]) == step

    path = f"/v1/jobs/{job['id']}/checkpoints"
    answer = admin.get(path)
    CheckpointList.model_validate_json(answer.content)
    newest = answer.json()["data"][0]
    assert newest["step"] == step
    assert newest["epoch"] == pytest.approx(step / 23)
    assert answer.json()["next_after"] is None
    assert all(each["is_best"] for each in admin.get(path, params={"after": step}).json()["data"])
    assert admin.get(path, params={"format": "csv"}).text.splitlines()[1].startswith(f"{step},")
    assert json.loads(admin.get(path, params={"format": "ndjson"}).text.splitlines()[0]) == newest
    assert str(step) in admin.get(path, params={"format": "text"}).text
    assert admin.get(path, params={"after": 0}).status_code == 422

    assert admin.post(f"/v1/jobs/{job['id']}/resume").status_code == 202
    ended = finish(admin, job)
    assert ended["status"] == "succeeded"
    assert values(admin, job)["step"] == list(range(1, ended["plan"]["total_steps"] + 1))


def test_checkpoints_of_an_unknown_job_are_not_found(admin: httpx.Client) -> None:
    assert admin.get("/v1/jobs/00000000-0000000/checkpoints").status_code == 404


def test_weights_are_downloaded_by_name_and_by_step_and_say_what_they_are(admin: httpx.Client) -> None:
    job = train(admin, digits(epochs=3))
    path = f"/v1/jobs/{job['id']}/checkpoints"
    for each in admin.get(path).json()["data"]:
        answer = admin.get(f"{path}/{each['step']}/weights")
        assert answer.status_code == 200
        assert (len(answer.content), hashlib.sha256(answer.content).hexdigest()) == (each["bytes"], each["sha256"])
        assert f"step-{each['step']}.safetensors" in answer.headers["Content-Disposition"]
    last = admin.get(f"{path}/last/weights").content
    (length,) = struct.unpack("<Q", last[:8])
    told = json.loads(json.loads(last[8 : 8 + length])["__metadata__"]["trainbox"])
    assert (told["step"], told["spec"]["dataset"], told["shape"], told["outputs"]) == (69, "digits", [64], 10)
    assert len(told["preprocessing"]["mean"]) == 64
    _, validation = data.split(load_digits().target, 360, 0)
    numbers = hashlib.sha256(validation.astype("<i8").tobytes()).hexdigest()
    assert told["preprocessing"]["split"] == {"by": "class", "seed": 0, "sha256": numbers}
    best = next(each for each in admin.get(path).json()["data"] if each["is_best"])
    assert hashlib.sha256(admin.get(f"{path}/best/weights").content).hexdigest() == best["sha256"]
    for name in ("7", "0", "worst", "..%2f..%2fadmin.token"):
        assert admin.get(f"{path}/{name}/weights").status_code in (404, 422)
    assert admin.get("/v1/jobs/00000000-0000000/checkpoints/last/weights").status_code == 404


def test_weights_that_a_trainer_has_replaced_by_a_link_are_not_served(
    admin: httpx.Client, box: Box, tmp_path: Path
) -> None:
    """U03."""
    job = train(admin, digits(epochs=1))
    path = f"/v1/jobs/{job['id']}/checkpoints/last/weights"
    folder = kept.folder(box.settings.jobs_path, job["id"])
    [place] = folder.iterdir()
    for moved in (place, folder, folder.parent):
        moved.rename(tmp_path / "elsewhere")
        moved.symlink_to(tmp_path / "elsewhere")
        assert admin.get(path).status_code == 404, moved
        moved.unlink()
        (tmp_path / "elsewhere").rename(moved)
    assert admin.get(path).status_code == 200
    file = place / "weights.safetensors"
    for make in (os.link, os.symlink):
        file.unlink()
        make(box.settings.token_path, file)
        assert admin.get(path).status_code == 404

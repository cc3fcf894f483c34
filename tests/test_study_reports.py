"""What studies find with real trainings: so far and in the end, and counted to the last sample."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from boxes import Spec, digits, submit
from conftest import Box, Until
from questions import BATCH, OVER, RATE, begin, end, grid, look, rates, search, sizes
from shelves import Shelf, put, stored
from sqlalchemy import select

from service import curves
from service.database import Database
from service.queue import QueueLimits
from service.states import Direction
from service.studies import advance, evidence
from service.tables import Job, Run


@pytest.mark.parametrize(
    "asked",
    [
        grid(base=digits(epochs=20), grid={RATE: [0.001, 0.01], BATCH: [32, 64]}),
        search(base=digits(epochs=20), trials=4),
        rates(learning_rates={"low": 1e-3, "high": 3, "count": 4}, steps=200),
        sizes(base=digits(epochs=20), batch_sizes=[16, 32, 64, "full"]),
    ],
    ids=lambda asked: str(asked["kind"]),
)
def test_a_study_that_goes_on_tells_what_it_knows_so_far(admin: httpx.Client, until: Until, asked: Spec) -> None:
    before = submit(admin, digits(epochs=100_000) | {"resources": {"threads": 2}})  # so that none begins meanwhile
    begun = begin(admin, asked)
    until(lambda: len(look(admin, begun).json()["jobs"]) == 4)
    held = look(admin, begun).json()["jobs"][3]["id"]
    assert admin.post(f"/v1/jobs/{held}/pause").status_code == 202
    admin.post(f"/v1/jobs/{before['id']}/cancel")
    until(lambda: look(admin, begun).json()["progress"]["succeeded"] == 3)
    report = look(admin, begun).json()["report"]
    assert report["partial"] == {"jobs_over": 3, "total_jobs": 4}
    match asked["kind"]:
        case "grid":
            assert len([row for row in report["ranking"] if row["rank"]]) == 3
        case "search":
            assert [row["state"] for row in report["history"]].count("complete") == 3
            assert report["steps"] == report["steps_without_pruning"] > 0, "of the trials that are over"
        case "lr_range":
            assert report["no_clear_answer"]["code"] == "not_over"
            assert [row["runs"] for row in report["rates"]] == [1, 1, 1, 0]
        case _:
            assert [row["batch_size"] for row in report["rows"]] == [16, 32, 64]
    assert "so far: 3 of 4 jobs are over" in look(admin, begun, format="text").text
    assert look(admin, begun, format="png").content.startswith(b"\x89PNG")
    admin.post(f"/v1/studies/{begun['id']}/cancel")
    assert end(admin, begun)["report"]["partial"] is None


def test_the_counts_of_batch_sizes_are_right_to_the_last_sample(admin: httpx.Client) -> None:
    given = [8, 16, 32, 64, 128, 256, 512, 1024, "full"]
    base = digits(epochs=3, learning_rate=0.01) | {"validation": {"every_steps": 3}}
    asked = sizes(base=base, batch_sizes=given, target={"metric": "val_accuracy", "value": 0.6}, learning_rate="sqrt")
    report = end(admin, begin(admin, asked))["report"]

    def seen(steps: int, size: int) -> int:
        """Samples of the first steps of epochs of 1437, the last batch of each being smaller."""
        epochs, rest = divmod(steps, -(-1437 // size))
        return epochs * 1437 + rest * size

    arrived = 0
    for row, run in zip(report["rows"], report["runs"], strict=True):
        size = 1437 if row["batch_size"] == "full" else row["batch_size"]
        steps = 3 * -(-1437 // size)
        assert (row["samples_per_step"], run["total_steps"], run["total_samples"]) == (size, steps, 3 * 1437)
        progress = admin.get(f"/v1/jobs/{run['job_id']}").json()["progress"]
        assert (progress["step"], progress["samples"]) == (steps, seen(steps, size))
        assert row["peak_memory_mib"] > 50
        if run["steps_to_target"] is not None:
            arrived += 1
            assert run["samples_to_target"] == seen(run["steps_to_target"], size)
            assert run["epochs_to_target"] == run["samples_to_target"] / 1437
            query: Spec = {"metric": "val_accuracy", "x": "samples", "points": 10_000}
            curve = admin.get(f"/v1/runs/{run['job_id']}/curves", params=query).json()["points"]
            first = next(x for x, y in zip(curve["x"], curve["y"], strict=True) if y >= 0.6)
            assert first == run["samples_to_target"]
    assert arrived >= 5
    assert {each["code"] for each in report["sayings"]} >= {"too_small", "more_memory", "more_epochs", "two_bests"}


def test_where_a_long_curve_comes_to_a_target_is_known_to_the_step(box: Box) -> None:
    chance = np.random.default_rng(4)
    values = np.linspace(2, 1, 30_000) + 0.2 * chance.standard_normal(30_000)
    run = box.admin.post("/v1/runs", json={"name": "long"}).json()["id"]
    for start in range(0, len(values), 10_000):
        part = [{"metric": "loss", "step": step + 1, "value": values[step]} for step in range(start, start + 10_000)]
        box.admin.post(f"/v1/runs/{run}/points", json={"points": part}).raise_for_status()
    database = Database(box.settings.database_path)
    with database.read() as session:
        seq = session.scalars(select(Run.seq).where(Run.id == run)).one()
        summary = curves.find(session, [seq])[seq]["loss"]
        for target in (2.0, 1.5, 1.2, 1.0, values[17_000], values.min()):
            found = evidence.arrival(session, summary, Direction.MIN, target)
            assert found is not None
            assert found[0] == 1 + int((values <= target).argmax())
        assert evidence.arrival(session, summary, Direction.MIN, values.min() - 1e-9) is None
    database.close()
    box.admin.post(f"/v1/runs/{run}/finish", json={"status": "succeeded"})


def test_batch_sizes_follow_the_policy_and_their_counts_agree(admin: httpx.Client) -> None:
    study = end(
        admin, begin(admin, sizes(base=digits(epochs=3, batch_size=64, learning_rate=0.004), learning_rate="sqrt"))
    )
    report = study["report"]
    small, full = report["rows"]
    assert small["learning_rate"] == pytest.approx(0.004 * (32 / 64) ** 0.5)
    assert full["learning_rate"] == pytest.approx(0.004 * (1437 / 64) ** 0.5)
    assert report["confounded"] is True
    assert small["samples_to_target"] == small["epochs_to_target"] * 1437
    assert small["steps_to_target"] == small["epochs_to_target"] * 45
    assert (full["samples_per_step"], report["runs"][1]["total_samples"]) == (1437, 3 * 1437)
    assert small["best"] >= 0.5
    assert report["most_accurate"] == 32
    assert report["conclusions"]


def test_range_tests_come_before_the_runs_that_they_are_for(admin: httpx.Client) -> None:
    asked = sizes(learning_rate="range_test", learning_rates={"low": 1e-4, "high": 3, "count": 6}, steps=30, seeds=2)
    study = end(admin, begin(admin, asked))
    assert study["status"] == "succeeded"
    stages = [job["stage"] for job in study["jobs"]]
    assert stages == ["range_test"] * 12 + ["runs"] * 4
    report = study["report"]
    for row, test in zip(report["rows"], report["range_tests"], strict=True):
        assert row["batch_size"] == test["batch_size"]
        assert row["learning_rate"] == pytest.approx(test["suggested"] or 0.001, rel=1e-4)
    assert report["confounded"] is False


def test_a_search_has_exactly_its_trials_however_many_take_its_steps(box: Box) -> None:
    begun = begin(box.admin, search(trials=6, parallel=2))
    database, limits = Database(box.settings.database_path), QueueLimits(10_000, 1_000)

    def push(_: int) -> None:
        for _round in range(20):
            advance.advance(database, begun["id"], limits)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(push, range(3)))
    study = end(box.admin, begun)
    with database.read() as session:
        places = session.scalars(select(Job.study_place).where(Job.study_id == begun["id"])).all()
    database.close()
    assert sorted(place for place in places if place is not None) == list(range(6))
    report = study["report"]
    assert [row["trial"] for row in report["history"]] == list(range(6))
    assert report["best"]["value"] == min(row["value"] for row in report["history"])
    assert set(report["importances"]) == set(report["main_effects"]) == {RATE, BATCH}
    assert report["ranking"][0]["job_id"] == report["best"]["job_id"]
    assert {row["parameters"][BATCH] for row in report["history"]} <= {64, 256}


def test_a_search_runs_from_its_first_trial_on(admin: httpx.Client, until: Until) -> None:
    begun = begin(admin, search(trials=3, parallel=1))
    until(lambda: look(admin, begun).json()["progress"]["created"] >= 2)
    study = look(admin, begun).json()
    assert study["status"] in ("running", "succeeded")
    assert study["started_at"] is not None
    admin.post(f"/v1/studies/{begun['id']}/cancel")
    end(admin, begun)


def test_asha_ends_hopeless_trials_early(admin: httpx.Client) -> None:
    space = {RATE: {"low": 1e-7, "high": 1e-2, "log": True}}
    base = digits(epochs=60, batch_size=32)
    study = end(
        admin, begin(admin, search(base=base, space=space, trials=5, parallel=3, pruner="asha", sampler="random"))
    )
    report = study["report"]
    assert study["status"] == "succeeded"
    assert report["states"]["pruned"] >= 1
    assert report["steps"] < report["steps_without_pruning"]
    pruned = next(row["job_id"] for row in report["history"] if row["state"] == "pruned")
    job = admin.get(f"/v1/jobs/{pruned}").json()
    assert (job["status"], job["status_reason"]["code"]) == ("cancelled", "pruned")
    assert "pruned" in job["status_reason"]["message"]


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_asha_takes_half_the_steps_of_the_full_search_and_finds_what_is_as_good(admin: httpx.Client) -> None:
    """The example of docs/choosing.md. The short form, with losses that are made up, is in test_study_analysis."""
    space = {RATE: {"low": 1e-5, "high": 1.0, "log": True}, BATCH: {"choices": [32, 64, 128]}}
    base = digits(epochs=400) | {"model": {"type": "mlp", "hidden_sizes": [128, 64]}}
    asked = search(base=base, space=space, trials=24, sampler="random")
    full, halved = (
        until_over(admin, begin(admin, asked | {"pruner": pruner}))["report"] for pruner in ("none", "asha")
    )
    assert full["steps"] == full["steps_without_pruning"] == halved["steps_without_pruning"]
    assert halved["steps"] <= full["steps"] / 2
    best = {param: [value] for param, value in full["best"]["parameters"].items()}
    seeds = until_over(admin, begin(admin, grid(base=base, grid=best, seeds=5)))["report"]["best"]
    low, high = seeds["interval"]
    assert low <= halved["best"]["value"] <= high, (halved["best"], seeds)


def until_over(client: httpx.Client, study: Spec) -> Spec:
    while study["status"] not in OVER:
        study = client.get(f"/v1/studies/{study['id']}", params={"wait": 60}).json()
    return study


def test_the_trainers_of_a_study_hold_their_data_once(box: Box, tmp_path: Path, until: Until) -> None:
    mib = 64
    x = np.random.default_rng(0).standard_normal((mib << 10, 256), np.float32)
    wide = stored(tmp_path / "wide", x=x, y=np.arange(len(x)) % 2)
    put(box.settings, Shelf(wide, "classification", len(x), classes=2), "wide")
    base = {"task": "classification", "dataset": "wide", "model": {"type": "linear"}}
    base["hyperparameters"] = {"max_steps": 10_000_000}
    begun = begin(box.admin, grid(base=base))
    until(lambda: look(box.admin, begun).json()["progress"]["running"] == 2)

    def trains(job: Spec) -> bool:
        return ((box.admin.get(f"/v1/jobs/{job['id']}").json()["progress"] or {}).get("step") or 0) > 0

    until(lambda: all(trains(job) for job in begun["jobs"]))
    own = [trainer_of(job["id"]).memory_full_info().uss >> 20 for job in begun["jobs"]]
    box.admin.post(f"/v1/studies/{begun['id']}/cancel")
    end(box.admin, begun)
    assert max(own) < 0.75 * mib, f"MiB that each alone holds: {own}"


def trainer_of(job_id: str) -> psutil.Process:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if f"/jobs/{job_id}/" in process.cwd():
                return process
    raise AssertionError(f"job {job_id} has no trainer")

"""Studies over HTTP, with a real worker: what they create, how they go on, how they end, and who may see them."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from boxes import Spec, digits, submit
from conftest import Box, Until
from sqlalchemy import func, select

from service import curves
from service.database import Database
from service.errors import QueueFull
from service.queue import QueueLimits
from service.states import Direction, Scope
from service.studies import advance, drafts, evidence, records
from service.tables import Job, Run, Study
from service.users import Principal

RATE, BATCH = "hyperparameters.learning_rate", "hyperparameters.batch_size"
OVER = ("succeeded", "failed", "cancelled")


def grid(**more: Any) -> Spec:
    return {"kind": "grid", "base": digits(epochs=1), "grid": {RATE: [0.001, 0.01]}} | more


ENDLESS = grid(base=digits(epochs=100_000))


def search(**more: Any) -> Spec:
    space = {RATE: {"low": 1e-4, "high": 1.0, "log": True}, BATCH: {"choices": [64, 256]}}
    return {"kind": "search", "base": digits(epochs=1), "space": space, "trials": 6} | more


def rates(**more: Any) -> Spec:
    span = {"low": 1e-4, "high": 3, "count": 8}
    return {"kind": "lr_range", "base": digits(), "learning_rates": span, "steps": 30, "seeds": 1} | more


def sizes(**more: Any) -> Spec:
    target = {"metric": "val_accuracy", "value": 0.5}
    return {"kind": "batch_size", "base": digits(epochs=2), "batch_sizes": [32, "full"], "target": target} | more


def begin(client: httpx.Client, study: Spec, **headers: str) -> Spec:
    answer = client.post("/v1/studies", json=study, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    begun: Spec = answer.json()
    return begun


def end(client: httpx.Client, study: Spec) -> Spec:
    ended: Spec = client.get(f"/v1/studies/{study['id']}", params={"wait": 60}).json()
    assert ended["status"] in OVER, ended["progress"]
    return ended


def look(client: httpx.Client, study: Spec, **query: Any) -> httpx.Response:
    return client.get(f"/v1/studies/{study['id']}", params=query)


@pytest.fixture(scope="module")
def tested(box: Box) -> Spec:
    """A range test that is over."""
    return end(box.admin, begin(box.admin, rates()))


def test_a_grid_runs_every_combination_with_every_seed(admin: httpx.Client) -> None:
    asked = grid(grid={RATE: [0.001, 0.01], "model.type": ["mlp", "linear"]}, seeds=2)
    begun = begin(admin, asked)
    assert begun["status"] in ("queued", "running")
    assert begun["report"] is None
    study = end(admin, begun)
    assert study["status"] == "succeeded"
    assert study["progress"]["finished"] == study["progress"]["total_jobs"] == 8
    jobs = admin.get("/v1/jobs", params={"study": study["id"]}).json()["data"]
    assert {job["id"] for job in jobs} == {job["id"] for job in study["jobs"]}
    assert {job["study_id"] for job in jobs} == {study["id"]}
    settings = {
        (
            job["spec"]["hyperparameters"]["learning_rate"],
            job["spec"]["model"]["type"],
            job["spec"]["hyperparameters"]["seed"],
        )
        for job in jobs
    }
    assert settings == {(rate, model, seed) for rate in (0.001, 0.01) for model in ("mlp", "linear") for seed in (0, 1)}
    report = study["report"]
    assert report["ranking"][0]["rank"] == 1
    best = min(
        job["metrics"]["val_loss"]["min"] for job in admin.get("/v1/runs", params={"study": study["id"]}).json()["data"]
    )
    assert report["ranking"][0]["value"] == best
    assert len(report["groups"]) == 4
    assert all(len(group["interval"]) == 2 for group in report["groups"])
    assert set(report["main_effects"]) == set(report["importances"]) == {RATE, "model.type"}
    assert sum(report["importances"].values()) == pytest.approx(1)


def test_a_dry_run_counts_and_creates_nothing(admin: httpx.Client) -> None:
    def count() -> int:
        return len(admin.get("/v1/studies", params={"limit": 200}).json()["data"])

    before = count()
    for asked, jobs, steps in (
        (grid(seeds=3), 6, 6 * 23),
        (rates(), 8, 8 * 30),
        (search(), 6, 6 * 23),
        (sizes(learning_rate="linear"), 2, 2 * 45 + 2),
        (sizes(learning_rate="range_test", learning_rates={"count": 3}, steps=10), 8, 6 * 10 + 2 * 45 + 2),
    ):
        answer = admin.post("/v1/studies", params={"dry_run": True}, json=asked)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (len(told["jobs"]), told["total_jobs"], told["total_steps"]) == (jobs, jobs, steps), asked["kind"]
    assert count() == before


@pytest.mark.parametrize(
    ("asked", "params"),
    [
        ({}, {"kind"}),
        ({"kind": "grit", "base": digits()}, {"kind"}),
        (grid(grid={}), {"grid"}),
        (grid(grid={RATE: []}), {f"grid.{RATE}"}),
        (grid(grid={RATE: [0.1, -1, "fast"]}), {f"grid.{RATE}.1", f"grid.{RATE}.2"}),
        (grid(grid={RATE: [0.1, 0.1]}), {f"grid.{RATE}.1"}),
        (grid(grid={"hyperparameters.learning_rat": [0.1]}), {"grid.hyperparameters.learning_rat"}),
        (grid(grid={"hyperparameters.seed": [1]}), {"grid.hyperparameters.seed"}),
        (grid(grid={"name": ["x"]}), {"grid.name"}),
        (grid(seeds=0, seed=1), {"seeds", "seed"}),
        (grid(base=digits(learning_rate=0) | {"dataset": "digit"}), {f"base.{RATE}", "base.dataset"}),
        (grid(base=[]), {"base"}),
        (grid(metric="val_mae"), {"metric"}),
        (grid(grid={RATE: [0.001 * n for n in range(1, 200)]}, seeds=100), {"grid"}),
        (grid(grid={"model.hidden_sizes": [[8]], "model.type": ["linear"]}), {"grid"}),
        (search(trials=0), {"trials"}),
        (search(space={RATE: {"low": 1.0, "high": 0.1}}), {f"space.{RATE}.high"}),
        (search(space={RATE: {"low": 0.0, "high": 0.1, "log": True}}), {f"space.{RATE}.low"}),
        (search(space={RATE: {"low": 0.1}}), {f"space.{RATE}.high"}),
        (
            search(space={RATE: {"low": 0.1, "high": 1.0, "choices": [1.0]}}),
            {f"space.{RATE}.low", f"space.{RATE}.high"},
        ),
        (search(space={RATE: {"low": 0.1, "high": 1000.0}}), {f"space.{RATE}.high"}),
        (search(space={BATCH: {"choices": [8, "half"]}}), {f"space.{BATCH}.choices.1"}),
        (search(sampler="grid", pruner="hedge"), {"sampler", "pruner"}),
        (rates(learning_rates={"low": 1.0, "high": 0.1}), {"learning_rates.high"}),
        (
            rates(learning_rates={"low": 0, "count": 2}, steps=1),
            {"learning_rates.low", "learning_rates.count", "steps"},
        ),
        (sizes(batch_sizes=[8, 0]), {"batch_sizes.1"}),
        (sizes(batch_sizes=[8, 8]), {"batch_sizes.1"}),
        (sizes(target={"metric": "val_mae", "value": 1}), {"target.metric"}),
        (sizes(target={"metric": "val_loss"}), {"target.value"}),
        (sizes(learning_rate="cubic"), {"learning_rate"}),
    ],
)
def test_what_is_wrong_is_named_by_its_path(admin: httpx.Client, asked: Spec, params: set[str]) -> None:
    answer = admin.post("/v1/studies", json=asked)
    assert answer.status_code == 422, answer.text
    assert {error["param"] for error in answer.json()["errors"]} == params, answer.text


def test_numbers_that_are_none_are_refused_by_name(admin: httpx.Client) -> None:
    body = json.dumps(grid(grid={RATE: [1, 2]})).replace("[1, 2]", "[NaN, 1e999]")
    answer = admin.post("/v1/studies", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert {error["param"] for error in answer.json()["errors"]} == {f"grid.{RATE}.0", f"grid.{RATE}.1"}


def test_the_same_key_begins_one_study(admin: httpx.Client) -> None:
    headers = {"Idempotency-Key": "one-study"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: admin.post("/v1/studies", json=grid(), headers=headers), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = admin.post("/v1/studies", json=grid(seeds=2), headers=headers)
    assert other.status_code == 422
    end(admin, answers[0].json())


def test_a_study_is_queued_whole_or_not_at_all(box: Box) -> None:
    database = Database(box.settings.database_path)
    principal = Principal("admin", Scope.ADMIN, "")
    counted = select(func.count()).select_from(Study)
    with database.read() as session:
        before = session.scalars(counted).one()
        made = drafts.check(session, principal, grid(seeds=4))
    with pytest.raises(QueueFull), database.write() as session:
        records.create(session, principal, made, QueueLimits(jobs=10_000, jobs_per_user=5))
    with database.read() as session:
        assert session.scalars(counted).one() == before
    database.close()


def test_a_private_study_does_not_exist_for_others(box: Box) -> None:
    with box.speaking_as("mary") as mary, box.speaking_as("ada") as ada:
        mary.put("/v1/projects/secret-study", json={"visibility": "private"}).raise_for_status()
        hidden = begin(mary, grid(base=digits(epochs=1) | {"project": "secret-study"}))
        for answer in (look(ada, hidden), ada.post(f"/v1/studies/{hidden['id']}/cancel")):
            assert answer.status_code == 404
            assert answer.json()["detail"] == "no such study"
        assert hidden["id"] not in {study["id"] for study in ada.get("/v1/studies").json()["data"]}
        assert ada.get("/v1/jobs", params={"study": hidden["id"]}).json()["data"] == []
        assert ada.get("/v1/studies", params={"after": hidden["id"]}).json()["data"] == []
        shown = begin(mary, grid())
        assert look(ada, shown).status_code == 200
        assert ada.post(f"/v1/studies/{shown['id']}/cancel").status_code == 403
        end(mary, hidden)
        end(mary, shown)
    with box.speaking_as("rita", Scope.READ) as rita:
        assert rita.post("/v1/studies", json=grid()).status_code == 403


def test_a_cancelled_study_ends_all_its_jobs(admin: httpx.Client) -> None:
    begun = begin(admin, ENDLESS | {"seeds": 2})
    answer = admin.post(f"/v1/studies/{begun['id']}/cancel")
    assert answer.status_code == 202
    study = end(admin, begun)
    assert study["status"] == "cancelled"
    assert {job["status"] for job in study["jobs"]} == {"cancelled"}
    assert study["report"]["best"] is None
    assert admin.post(f"/v1/studies/{begun['id']}/cancel").status_code == 200


def test_a_finished_study_cannot_be_cancelled(admin: httpx.Client, tested: Spec) -> None:
    answer = admin.post(f"/v1/studies/{tested['id']}/cancel")
    assert answer.status_code == 409
    assert answer.json()["detail"] == f"study {tested['id']} is succeeded and cannot become cancelled"


def test_a_study_of_jobs_that_all_fail_has_failed(admin: httpx.Client) -> None:
    asked = grid(base=digits(epochs=1, optimizer="sgd", batch_size=8), grid={RATE: [90.0, 95.0]})
    study = end(admin, begin(admin, asked))
    assert study["status"] == "failed"
    assert {job["error"] for job in study["jobs"]} == {"non_finite"}
    assert study["report"]["warnings"][0]["code"] == "runs_without_metric"


def test_a_range_test_suggests_a_rate_between_the_best_and_the_edge(tested: Spec) -> None:
    report = tested["report"]
    assert tested["status"] == "succeeded"
    assert report["no_clear_answer"] is None
    assert report["best_after_steps"] < report["suggested"] < report["stability_edge"]
    assert report["interval"][0] <= report["suggested"] <= report["interval"][1]
    assert [row["learning_rate"] for row in report["rates"]] == sorted(row["learning_rate"] for row in report["rates"])
    assert set(report["others"]) == {"steepest", "valley", "tenth"}


def test_a_spec_may_name_the_study_that_found_its_learning_rate(admin: httpx.Client, tested: Spec) -> None:
    spec = digits(epochs=1, learning_rate={"from_study": tested["id"]})
    job = submit(admin, spec)
    assert job["spec"]["hyperparameters"]["learning_rate"] == tested["report"]["suggested"]
    assert job["warnings"][-1]["code"] == "learning_rate_from_study"
    assert tested["id"] in job["warnings"][-1]["message"]
    assert admin.post("/v1/jobs", params={"dry_run": True}, json=spec).status_code == 200
    clone = admin.post(
        f"/v1/jobs/{job['id']}/clone", json={"hyperparameters": {"learning_rate": {"from_study": tested["id"]}}}
    )
    assert clone.json()["spec"]["hyperparameters"]["learning_rate"] == tested["report"]["suggested"]
    within = begin(admin, grid(base=spec, grid={BATCH: [64]}))
    assert within["spec"]["base"]["hyperparameters"]["learning_rate"] == tested["report"]["suggested"]
    end(admin, within)


def test_a_reference_that_gives_no_rate_says_why(admin: httpx.Client, tested: Spec) -> None:
    low = end(admin, begin(admin, rates(learning_rates={"low": 1e-5, "high": 1e-3, "count": 3})))
    assert low["report"]["no_clear_answer"]["code"] in ("range_too_low", "flat")
    path = f"{RATE}.from_study"
    running = begin(admin, ENDLESS)
    for wanted, param, code in (
        ({"from_study": "01jd3k5v7-x4q2m8z"}, path, "unknown_study"),
        ({"from_study": "no"}, path, "unknown_study"),
        ({"from_study": running["id"]}, path, "not_lr_range"),
        ({"from_study": low["id"]}, path, "no_clear_answer"),
        ({"from_study": 5}, RATE, "invalid_reference"),
        ({"from_study": tested["id"], "times": 2}, RATE, "invalid_reference"),
    ):
        answer = admin.post("/v1/jobs", json=digits(learning_rate=wanted, momentum=2.0))
        assert answer.status_code == 422
        told = {error["param"]: error["code"] for error in answer.json()["errors"]}
        assert told.pop(param) == code
        assert set(told) == {"hyperparameters.momentum"}
    admin.post(f"/v1/studies/{running['id']}/cancel")
    end(admin, running)


def test_a_report_comes_in_every_form(admin: httpx.Client, tested: Spec) -> None:
    text = look(admin, tested, format="text", width=90)
    assert "suggested: " in text.text
    assert all(len(line) <= 90 for line in text.text.split("\n\n")[0].splitlines())
    assert look(admin, tested, format="csv").text.splitlines()[0].startswith("learning_rate,loss,")
    assert len(look(admin, tested, format="csv").text.splitlines()) == 9
    assert look(admin, tested, format="ndjson").json()["id"] == tested["id"]
    assert look(admin, tested, format="png").content.startswith(b"\x89PNG")
    accepted = admin.get(f"/v1/studies/{tested['id']}", headers={"Accept": "image/svg+xml"})
    assert accepted.headers["content-type"] == "image/svg+xml"
    assert look(admin, tested, format="parquet").status_code == 422
    listed = admin.get("/v1/studies", params={"format": "text", "kind": "lr_range"}).text
    assert tested["id"] in listed


def test_a_study_that_is_not_over_has_no_picture_but_a_table_of_its_jobs(admin: httpx.Client) -> None:
    begun = begin(admin, ENDLESS)
    assert look(admin, begun, format="png").status_code == 409
    assert begun["jobs"][0]["id"] in look(admin, begun, format="csv").text
    assert begun["jobs"][0]["id"] in look(admin, begun, format="text").text
    assert look(admin, begun, wait=0.1).json()["report"] is None
    admin.post(f"/v1/studies/{begun['id']}/cancel")
    end(admin, begun)


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
    begun = begin(admin, asked)
    until(lambda: len(look(admin, begun).json()["jobs"]) == 4)
    held = look(admin, begun).json()["jobs"][3]["id"]
    assert admin.post(f"/v1/jobs/{held}/pause").status_code == 202
    until(lambda: look(admin, begun).json()["progress"]["succeeded"] == 3)
    report = look(admin, begun).json()["report"]
    assert report["partial"] == {"jobs_over": 3, "total_jobs": 4}
    match asked["kind"]:
        case "grid":
            assert len([row for row in report["ranking"] if row["rank"]]) == 3
        case "search":
            assert [row["state"] for row in report["history"]].count("complete") == 3
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


def test_a_job_that_is_deleted_leaves_its_study_whole(admin: httpx.Client) -> None:
    begun = begin(admin, ENDLESS)
    gone, other = (job["id"] for job in begun["jobs"])
    admin.post(f"/v1/jobs/{gone}/cancel")
    admin.get(f"/v1/jobs/{gone}", params={"wait": 30})
    assert admin.delete(f"/v1/jobs/{gone}").status_code == 204
    admin.post(f"/v1/jobs/{other}/cancel")
    study = end(admin, begun)
    assert study["status"] == "failed"
    assert [job["id"] for job in study["jobs"]] == [None, other]


def test_lists_of_studies_are_paged_and_narrowed(admin: httpx.Client, tested: Spec) -> None:
    first = admin.get("/v1/studies", params={"limit": 1}).json()
    assert first["has_more"]
    second = admin.get("/v1/studies", params={"limit": 1, "after": first["next_after"]}).json()
    assert second["data"][0]["id"] < first["data"][0]["id"]
    assert {study["kind"] for study in admin.get("/v1/studies", params={"kind": "lr_range"}).json()["data"]} == {
        "lr_range"
    }
    assert admin.get("/v1/studies", params={"kind": "grit"}).status_code == 422
    assert admin.get("/v1/studies/no").status_code == 404
    assert admin.get("/v1/studies/01jd3k5v7-x4q2m8z").status_code == 404


def typed(box: Box, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, as the admin."""
    place = {"TRAINBOX_URL": box.server.url, "TRAINBOX_TOKEN": box.settings.token_path.read_text().strip()}
    return subprocess.run(
        [sys.executable, "-m", "service.cli", "study", *arguments],
        env=os.environ | place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_line_begins_studies_and_shows_what_they_found(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(digits()))
    spec = str(path)
    picture, asked = tmp_path / "grid.svg", ["--set", "hyperparameters.epochs=1", "--over", f"{RATE}=0.001,0.01"]
    done = typed(box, "grid", spec, *asked, "--wait", "--save", str(picture))
    assert done.returncode == 0, done.stderr
    assert "best val_loss: " in done.stdout
    assert picture.read_bytes().startswith(b"<?xml")
    study_id = done.stdout.split()[0]
    shown = typed(box, "show", study_id)
    assert "succeeded: 2 of 2 jobs succeeded" in shown.stdout
    assert json.loads(typed(box, "show", study_id, "--json").stdout)["report"]["metric"] == "val_loss"
    assert study_id in typed(box, "list", "--kind", "grid").stdout
    assert typed(box, "show", study_id, "--save", str(tmp_path / "grid.gif")).returncode == 2
    assert typed(box, "cancel", study_id).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        (["lr-range", "--count", "8", "--seeds", "1"], 8),
        (["batch-size", "--sizes", "8,full", "--target", "val_accuracy=0.9", "--learning-rate", "sqrt"], 2),
        (
            [
                "batch-size",
                "--sizes",
                "8,16",
                "--target",
                "val_loss=1",
                "--learning-rate",
                "range_test",
                "--count",
                "5",
            ],
            12,
        ),
        (["search", "--over", f"{RATE}=1e-4:1.0:log", "--over", f"{BATCH}=16,64,full", "--trials", "5"], 5),
    ],
)
def test_the_command_line_asks_for_every_kind(box: Box, tmp_path: Path, arguments: list[str], jobs: int) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(digits()))
    done = typed(box, arguments[0], str(path), *arguments[1:], "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total_jobs"] == jobs

"""Studies over HTTP, with a real worker: what they create, how they end, and who may see them."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from boxes import Spec, digits, submit
from conftest import Box
from questions import BATCH, ENDLESS, RATE, begin, end, grid, look, rates, search, sizes
from sqlalchemy import func, select

from service.database import Database
from service.errors import QueueFull
from service.queue import QueueLimits
from service.states import Scope
from service.studies import drafts, records
from service.tables import Study
from service.users import Principal


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
        (
            grid(grid={RATE: [0.1, -1], BATCH: [], "seed": [1]}, seeds=0, metric="val_mae"),
            {f"grid.{RATE}.1", f"grid.{BATCH}", "grid.seed", "seeds", "metric"},
        ),
        (
            search(space={RATE: {"low": -1, "high": 1}, BATCH: {"chioces": [8]}}, parallel=0),
            {"parallel", f"space.{RATE}.low", f"space.{BATCH}.chioces"},
        ),
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
        (rates(learning_rates={"low": 0.99999, "high": 1.0, "count": 50}), {"learning_rates.count"}),
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


def test_a_mistyped_field_within_a_space_is_told_what_was_meant(admin: httpx.Client) -> None:
    answer = admin.post("/v1/studies", json=search(space={BATCH: {"chioces": [8]}}))
    assert [error["hint"] for error in answer.json()["errors"]] == ["did you mean choices?"]


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


def test_the_key_of_a_study_that_is_hidden_since_says_so(box: Box) -> None:
    with box.speaking_as("mary") as mary, box.speaking_as("ada") as ada:
        mary.put("/v1/projects/open-study", json={}).raise_for_status()
        asked = grid(base=digits(epochs=1) | {"project": "open-study"})
        begun = begin(ada, asked, **{"Idempotency-Key": "hidden-since"})
        mary.put("/v1/projects/open-study", json={"visibility": "private"}).raise_for_status()
        again = ada.post("/v1/studies", json=asked, headers={"Idempotency-Key": "hidden-since"})
        assert (again.status_code, again.json()["code"]) == (409, "made_and_gone")
        end(mary, begun)


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
    for query in ("", "?dry_run=true"):
        patch = {"hyperparameters": {"learning_rate": {"from_study": tested["id"]}}}
        clone = admin.post(f"/v1/jobs/{job['id']}/clone{query}", json=patch).json()
        assert clone["spec"]["hyperparameters"]["learning_rate"] == tested["report"]["suggested"]
        assert clone["warnings"][-1]["code"] == "learning_rate_from_study"
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

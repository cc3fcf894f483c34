"""Curves and comparisons over HTTP, of runs that were trained for real."""

import csv
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from boxes import digits, finish, submit, train, values
from conftest import Box

from service.api.views.compare import ComparisonView
from service.api.views.runs import CurveList


@pytest.fixture(scope="module")
def pair(box: Box) -> list[dict[str, Any]]:
    """Two digits jobs that differ in the learning rate: the first one learns, the second one crawls."""
    jobs = [submit(box.admin, digits(learning_rate=rate, epochs=10)) for rate in (0.003, 0.0001)]
    return [finish(box.admin, job) for job in jobs]


def curve(client: httpx.Client, job: dict[str, Any], **query: Any) -> Any:
    answer = client.get(f"/v1/runs/{job['id']}/curves", params={"metric": "train_loss", **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def compare(client: httpx.Client, jobs: list[dict[str, Any]], **query: Any) -> Any:
    answer = client.get("/v1/compare", params={"runs": ",".join(job["id"] for job in jobs), **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_answers_have_the_documented_form(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    path = f"/v1/runs/{pair[0]['id']}/curves?metric=train_loss&metric=val_loss&points=20"
    CurveList.model_validate_json(admin.get(path).content)
    ids = ",".join(job["id"] for job in pair)
    ComparisonView.model_validate_json(admin.get(f"/v1/compare?runs={ids}&metric=val_loss").content)


def test_axes_follow_from_the_plan_and_the_recorded_times(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    plan = pair[0]["plan"]
    steps = curve(admin, pair[0])["points"]["step"]
    assert curve(admin, pair[0], x="step")["points"]["x"] == steps
    epochs = curve(admin, pair[0], x="epoch")["points"]["x"]
    assert epochs[plan["steps_per_epoch"] - 1] == 1
    assert epochs[-1] == plan["epochs"]
    samples = curve(admin, pair[0], x="samples")["points"]["x"]
    assert samples[plan["steps_per_epoch"] - 1] == plan["train_samples"]
    times = curve(admin, pair[0], x="time")["points"]["x"]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 60


def test_a_thinned_curve_keeps_its_ends_and_its_extremes(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    whole = values(admin, pair[0])
    thinned = curve(admin, pair[0], points=20)
    points = thinned["points"]
    assert (thinned["count"], thinned["downsampled"]) == (230, True)
    assert len(points["x"]) <= 20
    assert (points["step"][0], points["step"][-1]) == (1, 230)
    assert (points["y"][0], points["y"][-1]) == (whole["y"][0], whole["y"][-1])
    assert (min(points["min"]), max(points["max"])) == (min(whole["y"]), max(whole["y"]))


def test_a_thinned_curve_tells_single_points_from_means(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    whole, thinned = values(admin, pair[0]), curve(admin, pair[0], points=20)
    single = [thinned["points"]["y"][place] for place in thinned["beside"]]
    assert {whole["y"][0], whole["y"][-1], min(whole["y"]), max(whole["y"])} == set(single)
    means = [y for place, y in enumerate(thinned["points"]["y"]) if place not in thinned["beside"]]
    assert min(whole["y"]) < min(means)
    compared = admin.get("/v1/compare", params={"runs": pair[0]["id"], "metric": "train_loss", "points": 20}).json()
    assert compared["runs"][0]["curve"]["beside"] == thinned["beside"]
    assert curve(admin, pair[0])["beside"] == curve(admin, pair[0], points="all")["beside"] == []


def test_a_range_counts_and_shows_only_its_steps(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    part = curve(admin, pair[0], **{"from": 10, "to": 19})
    assert part["count"] == 10
    assert part["points"]["step"] == list(range(10, 20))
    assert curve(admin, pair[0], **{"from": 20, "to": 10})["count"] == 0


def test_smoothing_changes_y_alone(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    raw, smooth = curve(admin, pair[0])["points"], curve(admin, pair[0], smooth=0.9)["points"]
    assert smooth["y"][0] == pytest.approx(raw["y"][0])
    assert smooth["y"] != raw["y"]
    assert (smooth["min"], smooth["max"], smooth["step"]) == (raw["min"], raw["max"], raw["step"])


def test_several_metrics_come_in_the_order_asked_for(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    body = curve(admin, pair[0], metric=["val_accuracy", "train_loss"])
    assert [each["metric"] for each in body["data"]] == ["val_accuracy", "train_loss"]


def test_the_same_curve_comes_as_csv_lines_and_text(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    path = f"/v1/runs/{pair[0]['id']}/curves?metric=train_loss"
    points = curve(admin, pair[0])["points"]
    rows = list(csv.DictReader(io.StringIO(admin.get(path, headers={"Accept": "text/csv"}).text)))
    assert [float(row["y"]) for row in rows] == points["y"]
    assert [int(row["step"]) for row in rows] == points["step"]
    lines = admin.get(f"{path}&format=ndjson").text.splitlines()
    assert [json.loads(line)["points"] for line in lines] == [points]
    text = admin.get(f"{path}&format=text&width=60").text
    assert max(map(len, text.splitlines())) <= 60
    assert "train_loss" in text


def test_metrics_of_one_kind_share_a_text_chart_and_others_have_their_own(
    admin: httpx.Client, pair: list[dict[str, Any]]
) -> None:
    path = f"/v1/runs/{pair[0]['id']}/curves?format=text&x=time"
    alike = admin.get(f"{path}&metric=train_loss&metric=val_loss").text
    apart = admin.get(f"{path}&metric=train_loss&metric=val_accuracy&metric=val_loss").text
    assert (alike.count("└"), apart.count("└")) == (1, 2)
    assert {"train_loss, val_loss", "val_accuracy"} <= {line.split(", log")[0] for line in apart.splitlines()}
    assert apart.count("training time (s)") == 2


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("metric=train_loss&points=0", "points"),
        ("metric=train_loss&points=-1", "points"),
        ("metric=train_loss&points=1000000000", "points"),
        ("metric=train_loss&x=moon", "x"),
        ("metric=train_loss&smooth=1", "smooth"),
        ("metric=train_loss&smooth=nan", "smooth"),
        ("metric=train_loss&format=xls", "format"),
        ("metric=train_loss&max_points=3", "max_points"),
        ("metric=%3Cb%3E", "metric"),
        ("", "metric"),
    ],
)
def test_a_wrong_question_is_refused_and_named(
    admin: httpx.Client, pair: list[dict[str, Any]], query: str, param: str
) -> None:
    answer = admin.get(f"/v1/runs/{pair[0]['id']}/curves?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["param"] == param


def test_an_unknown_metric_of_a_finished_run_is_not_found(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    """Nor is one that its task does not measure; what there is is told."""
    for metric in ("val_typo", "val_mae"):
        answer = admin.get(f"/v1/runs/{pair[0]['id']}/curves?metric=train_loss&metric={metric}")
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith("no such metric: this run has train_loss, ")


def test_a_comparison_shows_what_differs_and_who_did_best(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    body = compare(admin, pair, metric="val_accuracy", target=0.9, x="epoch")
    assert body["direction"] == "max"
    assert body["differing_parameters"] == ["hyperparameters.learning_rate"]
    fast, slow = body["runs"]
    assert (fast["rank"], slow["rank"]) == (1, 2)
    assert fast["parameters"] == {"hyperparameters.learning_rate": 0.003}
    assert 0 < fast["summary"]["to_target"] <= 10
    assert slow["summary"]["to_target"] is None
    metrics = admin.get(f"/v1/runs/{pair[0]['id']}").json()["metrics"]["val_accuracy"]
    assert fast["summary"]["best"] == metrics["best"]
    assert fast["summary"]["last"] == metrics["last"]
    assert fast["summary"]["best_at"] * pair[0]["plan"]["steps_per_epoch"] == pytest.approx(metrics["best_step"])
    assert body["warnings"] == []


def test_ranking_by_training_loss_is_warned_of(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    codes = [warning["code"] for warning in compare(admin, pair, metric="train_loss")["warnings"]]
    assert codes == ["ranked_by_training_loss"]


def test_a_comparison_by_filter_takes_the_runs_that_match(admin: httpx.Client) -> None:
    ids = {train(admin, digits(seed=seed) | {"tags": {"set": "compared"}})["id"] for seed in (1, 2)}
    body = admin.get("/v1/compare?tag.set=compared&metric=val_loss").json()
    assert {run["run_id"] for run in body["runs"]} == ids
    assert body["differing_parameters"] == ["hyperparameters.seed"]


def test_what_is_said_of_runs_does_not_depend_on_how_many_points_are_shown(shared: httpx.Client) -> None:
    chance = np.random.default_rng(7)
    ids = []
    for rate, end in ((0.1, 0.5), (0.01, 0.45)):
        ids.append(shared.post("/v1/runs", json={"name": "noisy", "parameters": {"rate": rate}}).json()["id"])
        values = end + np.exp(-np.arange(3000) / 500) + 0.1 * chance.standard_normal(3000)
        points = [{"metric": "loss", "step": step, "value": value} for step, value in enumerate(values.tolist(), 1)]
        assert shared.post(f"/v1/runs/{ids[-1]}/points", json={"points": points}).status_code == 200
    query: dict[str, Any] = {"runs": ",".join(ids), "metric": "loss", "target": 0.6, "group_by": "rate"}
    few, many = (shared.get("/v1/compare", params=query | {"points": points}).json() for points in (10, 1000))
    assert [len(run["curve"]["points"]["x"]) <= 10 for run in few["runs"]] == [True, True]
    assert len(many["runs"][0]["curve"]["points"]["x"]) > 300
    assert few["verdicts"] == many["verdicts"] != []
    for kind in ("runs", "groups"):
        assert [each["summary"] for each in few[kind]] == [each["summary"] for each in many[kind]]


def test_a_run_without_the_metric_is_listed_without_a_curve(admin: httpx.Client, pair: list[dict[str, Any]]) -> None:
    other = train(admin, {"task": "regression", "dataset": "diabetes"})
    body = compare(admin, [pair[0], other], metric="val_accuracy")
    assert [run["curve"] is None for run in body["runs"]] == [False, True]
    assert "runs_without_metric" in [warning["code"] for warning in body["warnings"]]
    [mistyped] = [each for each in compare(admin, pair, metric="val_acc")["warnings"] if "val_acc:" in each["message"]]
    assert "; what they have is grad_norm, learning_rate, " in mistyped["message"]


def test_a_comparison_fits_the_width_as_text_and_is_a_table_as_csv(
    admin: httpx.Client, pair: list[dict[str, Any]]
) -> None:
    path = f"/v1/compare?runs={pair[0]['id']},{pair[1]['id']}&metric=val_loss"
    text = admin.get(f"{path}&format=text&width=70").text
    assert max(map(len, text.splitlines())) <= 70
    assert "learning_rate=0.003" in text
    rows = list(csv.DictReader(io.StringIO(admin.get(f"{path}&format=csv").text)))
    assert [row["run_id"] for row in rows] == [job["id"] for job in pair]
    assert [row["rank"] for row in rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("metric=val_loss&runs=", 422),
        ("metric=val_loss&runs=%2e%2e%2fx", 422),
        ("metric=val_loss&runs=00000000-0000000", 404),
        ("metric=val_loss&runs=" + ",".join(f"00000000-{n:07}" for n in range(51)), 422),
        ("metric=val_loss&target=nan", 422),
        ("metric=val_loss&group_by=x", 422),
        ("runs=00000000-0000000", 422),
    ],
)
def test_a_wrong_comparison_is_refused(admin: httpx.Client, query: str, status: int) -> None:
    assert admin.get(f"/v1/compare?{query}").status_code == status


def test_of_many_runs_the_one_that_does_not_exist_is_told_by_its_place(
    admin: httpx.Client, pair: list[dict[str, Any]]
) -> None:
    answer = admin.get(f"/v1/compare?metric=val_loss&runs={pair[0]['id']},00000000-0000000,{pair[1]['id']}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "no such run: number 2 of those named")

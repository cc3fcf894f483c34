"""A job from its submission to its result, over HTTP, trained for real."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aftermath
import httpx
import pytest
from boxes import digits, finish, submit, train, values, worker
from conftest import Box, MakeToken, Serve, Until
from test_auth import routes

from service import datasets, home
from service.api.views.jobs import DryRun, JobList, JobView
from service.api.views.runs import WholeRun
from service.database import Database
from service.settings import Settings
from service.states import Scope

LONG = {"epochs": 100_000}


@pytest.fixture(scope="module")
def finished(box: Box) -> dict[str, Any]:
    return train(box.admin, digits(learning_rate=0.003, epochs=10))


@pytest.fixture
def long_job(admin: httpx.Client, until: Until) -> Iterator[dict[str, Any]]:
    job = submit(admin, digits(**LONG))
    until(lambda: admin.get(f"/v1/jobs/{job['id']}").json()["status"] == "running")
    yield job
    admin.post(f"/v1/jobs/{job['id']}/cancel")
    finish(admin, job)


def test_a_job_is_trained_and_its_result_is_its_run(admin: httpx.Client, finished: dict[str, Any]) -> None:
    assert finished["status"] == "succeeded", finished["error"]
    assert finished["progress"]["step"] == finished["plan"]["total_steps"] == 230
    assert finished["progress"]["samples"] == finished["plan"]["total_samples"] == 14_370
    answer = admin.get(f"/v1/jobs/{finished['id']}/result")
    assert answer.status_code == 200
    run = answer.json()
    assert run["metrics"]["val_accuracy"]["best"] > 0.95
    assert run["metrics"]["train_loss"]["count"] == 230
    assert run["metrics"]["val_loss"]["count"] == finished["plan"]["validations"]


def test_answers_have_the_documented_form(admin: httpx.Client, finished: dict[str, Any]) -> None:
    JobView.model_validate_json(admin.get(f"/v1/jobs/{finished['id']}").content, strict=False)
    JobList.model_validate_json(admin.get("/v1/jobs").content)
    WholeRun.model_validate_json(admin.get(f"/v1/runs/{finished['id']}").content)
    DryRun.model_validate_json(admin.post("/v1/jobs?dry_run=true", json=digits()).content)


def test_train_loss_has_the_steps_from_1_to_the_last_once_each(admin: httpx.Client, finished: dict[str, Any]) -> None:
    assert values(admin, finished)["step"] == list(range(1, 231))


@pytest.mark.parametrize(
    "spec",
    [
        digits(),
        {"task": "regression", "dataset": "diabetes", "hyperparameters": {"epochs": 3, "lr_schedule": "cosine"}},
        {"task": "classification", "dataset": "wine", "model": {"type": "mlp", "hidden_sizes": [16], "dropout": 0.5}},
    ],
    ids=["digits", "diabetes", "dropout"],
)
def test_the_same_spec_and_seed_give_the_same_curve_to_the_last_bit(admin: httpx.Client, spec: dict[str, Any]) -> None:
    first, second = train(admin, spec), train(admin, spec)
    assert values(admin, first) == values(admin, second)
    assert values(admin, first, "val_loss") == values(admin, second, "val_loss")


def test_another_seed_gives_another_curve(admin: httpx.Client) -> None:
    first, second = train(admin, digits(seed=1)), train(admin, digits(seed=2))
    assert values(admin, first)["y"] != values(admin, second)["y"]


@pytest.mark.parametrize("dataset", ["breast_cancer", "wine", "iris"])
def test_every_built_in_data_set_can_be_learned(admin: httpx.Client, dataset: str) -> None:
    job = train(admin, {"task": "classification", "dataset": dataset, "hyperparameters": {"learning_rate": 0.01}})
    run = admin.get(f"/v1/jobs/{job['id']}/result").json()
    assert run["metrics"]["val_accuracy"]["best"] > 0.9


@pytest.mark.parametrize(
    ("hyperparameters", "fraction"),
    [
        ({"batch_size": 64, "epochs": 2}, 0.2),
        ({"batch_size": 100, "epochs": 3, "drop_last": True}, 0.2),
        ({"batch_size": "full", "epochs": 4}, 0.5),
        ({"batch_size": 5000, "epochs": 2}, 0.1),
        ({"batch_size": 7, "max_steps": 33}, 0.3),
        ({"batch_size": 64, "max_steps": 50, "warmup_steps": 10}, 0.0),
    ],
)
def test_every_number_of_the_plan_is_what_the_run_did(
    admin: httpx.Client, hyperparameters: dict[str, Any], fraction: float
) -> None:
    job = train(admin, digits(**{"epochs": None, **hyperparameters}) | {"validation": {"fraction": fraction}})
    plan, progress = job["plan"], job["progress"]
    samples = values(admin, job)
    by_samples = admin.get(f"/v1/runs/{job['id']}/curves?metric=train_loss&x=samples&points=10000").json()["points"][
        "x"
    ]
    by_epoch = admin.get(f"/v1/runs/{job['id']}/curves?metric=train_loss&x=epoch&points=10000").json()["points"]["x"]
    assert plan["train_samples"] + plan["validation_samples"] == 1797
    assert len(samples["step"]) == plan["total_steps"] == progress["step"]
    assert by_samples[-1] == plan["total_samples"] == progress["samples"]
    assert by_epoch[-1] == pytest.approx(plan["epochs"])
    if len(by_samples) >= plan["steps_per_epoch"] > 1:
        steps = plan["steps_per_epoch"]
        assert by_samples[steps - 1] - by_samples[steps - 2] == plan["last_batch_samples"]
    metrics = admin.get(f"/v1/runs/{job['id']}").json()["metrics"]
    assert metrics.get("val_loss", {"count": 0})["count"] == plan["validations"]


def test_a_dry_run_says_the_plan_and_creates_nothing(admin: httpx.Client) -> None:
    before = admin.get("/v1/jobs?limit=1").json()["data"]
    answer = admin.post("/v1/jobs?dry_run=true", json=digits(learning_rate=0.5))
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"spec", "plan", "warnings"}
    assert body["spec"]["hyperparameters"]["optimizer"] == "adam"
    assert [warning["code"] for warning in body["warnings"]] == ["learning_rate_unusual", "few_steps"]
    assert admin.get("/v1/jobs?limit=1").json()["data"] == before


def test_a_spec_without_its_task_is_told_that_alone(admin: httpx.Client) -> None:
    """The default of the model hangs on the task, which is no problem of its own."""
    answer = admin.post("/v1/jobs", json={"dataset": "digits"})
    assert [(error["param"], error["code"]) for error in answer.json()["errors"]] == [("task", "missing")]


def test_a_submission_says_where_the_job_is(admin: httpx.Client) -> None:
    answer = admin.post("/v1/jobs", json=digits())
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    assert admin.get(answer.headers["Location"]).status_code == 200


def test_a_repeated_submission_with_the_same_key_makes_one_job(admin: httpx.Client) -> None:
    def post(_: int) -> httpx.Response:
        return admin.post("/v1/jobs", json=digits(seed=77), headers={"Idempotency-Key": "once-77"})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert {answer.json()["id"] for answer in answers} == {answers[0].json()["id"]}
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    other = admin.post("/v1/jobs", json=digits(seed=78), headers={"Idempotency-Key": "once-77"})
    assert other.status_code == 422


def test_all_problems_of_a_spec_are_told_at_once(admin: httpx.Client) -> None:
    body = (
        '{"task": "classification", "dataset": "digitz", "hyperparameters": {"learning_rate": NaN, "batch_size": 0,'
        ' "learning_rat": 1, "epochs": 1e12, "max_steps": 5, "loss": "mse"}, "model": {"type": "gru"}}'
    )
    answer = admin.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    problems = {problem["param"]: problem for problem in answer.json()["errors"]}
    assert set(problems) == {
        "dataset",
        "hyperparameters.learning_rate",
        "hyperparameters.batch_size",
        "hyperparameters.learning_rat",
        "hyperparameters.epochs",
        "hyperparameters.max_steps",
        "hyperparameters.loss",
        "model.type",
    }
    assert problems["hyperparameters.learning_rat"]["hint"] == "did you mean learning_rate?"
    assert "gru" not in answer.text


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        ({"task": "regression", "dataset": "digits"}, "task"),
        ({"task": "classification", "dataset": "digits", "hyperparameters": {"loss": "bce"}}, "hyperparameters.loss"),
        ({"task": "classification", "dataset": "digits@2"}, "dataset"),
        ({"task": "classification", "dataset": "digits", "resources": {"threads": 200}}, "resources.threads"),
        ({"task": "classification", "dataset": "digits", "resources": {"gpus": 8}}, "resources.gpus"),
        (
            {"task": "classification", "dataset": "iris", "hyperparameters": {"epochs": 10**12}},
            "hyperparameters.epochs",
        ),
        (
            {"task": "classification", "dataset": "digits", "hyperparameters": {"batch_size": 5000, "drop_last": True}},
            "hyperparameters.batch_size",
        ),
        (
            {"task": "classification", "dataset": "digits", "model": {"type": "mlp", "hidden_sizes": [10**9]}},
            "model.hidden_sizes.0",
        ),
    ],
)
def test_a_job_that_cannot_be_trained_is_refused_at_once(admin: httpx.Client, spec: dict[str, Any], param: str) -> None:
    answer = admin.post("/v1/jobs", json=spec)
    assert answer.status_code == 422
    assert [problem["param"] for problem in answer.json()["errors"]] == [param]


def test_a_waiting_job_is_cancelled_at_once_and_never_starts(admin: httpx.Client, long_job: dict[str, Any]) -> None:
    waiting = submit(admin, digits() | {"resources": {"threads": 2}})
    assert admin.post(f"/v1/jobs/{waiting['id']}/cancel").status_code == 202
    job = admin.get(f"/v1/jobs/{waiting['id']}").json()
    assert (job["status"], job["attempt"]) == ("cancelled", 0)
    assert admin.post(f"/v1/jobs/{waiting['id']}/cancel").status_code == 200


def test_a_running_job_is_cancelled_at_its_next_step(admin: httpx.Client, until: Until) -> None:
    job = submit(admin, digits(**LONG))
    until(lambda: admin.get(f"/v1/jobs/{job['id']}").json()["status"] == "running")
    answer = admin.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.status_code == 202
    assert answer.json()["status_reason"]["code"] == "cancelling"
    ended = finish(admin, job)
    assert ended["status"] == "cancelled"
    assert admin.get(f"/v1/jobs/{job['id']}/result").status_code == 409
    steps = values(admin, ended)["step"]
    assert steps == list(range(1, len(steps) + 1))


def test_a_finished_job_cannot_be_cancelled(admin: httpx.Client, finished: dict[str, Any]) -> None:
    answer = admin.post(f"/v1/jobs/{finished['id']}/cancel")
    assert answer.status_code == 409
    assert answer.json()["detail"] == f"job {finished['id']} is succeeded and cannot become cancelled"


def test_a_result_is_202_while_the_job_is_not_over(admin: httpx.Client, long_job: dict[str, Any]) -> None:
    answer = admin.get(f"/v1/jobs/{long_job['id']}/result")
    assert answer.status_code == 202
    assert answer.json()["id"] == long_job["id"]


def test_a_wait_ends_with_its_time_when_the_job_does_not(admin: httpx.Client, long_job: dict[str, Any]) -> None:
    answer = admin.get(f"/v1/jobs/{long_job['id']}?wait=0.3")
    assert answer.json()["status"] in ("queued", "running")
    assert 0.3 <= answer.elapsed.total_seconds() < 5


def test_beyond_its_end_a_log_has_nothing_however_far(admin: httpx.Client, finished: dict[str, Any]) -> None:
    for offset in (10**6, 2**63 - 1):
        path = f"/v1/jobs/{finished['id']}/logs?offset={offset}"
        assert admin.get(path).headers["X-Next-Offset"] == str(offset)
        for answer in (admin.get(path), admin.get(f"{path}&follow=true")):
            assert (answer.status_code, answer.content) == (200, b"")


def test_logs_go_on_where_they_were_left(admin: httpx.Client, finished: dict[str, Any]) -> None:
    whole = admin.get(f"/v1/jobs/{finished['id']}/logs")
    assert whole.headers["content-type"].startswith("text/plain")
    assert "classification of digits" in whole.text
    rest = admin.get(f"/v1/jobs/{finished['id']}/logs?offset=10")
    assert rest.content == whole.content[10:]
    assert rest.headers["X-Next-Offset"] == str(len(whole.content)) == whole.headers["X-Next-Offset"]
    assert admin.get(f"/v1/jobs/{finished['id']}/logs?offset={2**62}").content == b""
    assert admin.get(f"/v1/jobs/{finished['id']}/logs?attempt=2").status_code == 404


def test_curves_are_read_while_they_are_written_and_nothing_is_refused_or_lost(admin: httpx.Client) -> None:
    jobs = [submit(admin, digits(epochs=None, max_steps=100_000_000, batch_size=16)) for _ in range(2)]
    end = time.monotonic() + 3
    seen = dict.fromkeys((job["id"] for job in jobs), 0)
    while time.monotonic() < end:
        for job_id in seen:
            answer = admin.get(f"/v1/runs/{job_id}/curves", params={"metric": "train_loss", "points": 1000})
            assert answer.status_code == 200, answer.text
            count = answer.json()["count"]
            assert count >= seen[job_id], "a curve only grows"
            seen[job_id] = count
        time.sleep(0.1)
    for job in jobs:
        assert seen[job["id"]] > 0
        admin.post(f"/v1/jobs/{job['id']}/cancel")
        ended = finish(admin, job)
        loss = admin.get(f"/v1/runs/{job['id']}").json()["metrics"]["train_loss"]
        assert loss["count"] == loss["last_step"] == ended["progress"]["step"]


@pytest.mark.chaos
def test_eight_trainers_and_twenty_reads_a_second_for_a_minute_lose_refuse_and_delay_nothing(
    serve: Serve, settings: Settings, until: Until
) -> None:
    home.prepare(settings)
    headers = {"Authorization": f"Bearer {settings.token_path.read_text().strip()}"}
    with (
        httpx.Client(base_url=serve().url, headers=headers, timeout=60) as client,
        worker(settings.home, TRAINBOX_SLOTS="8"),
    ):
        until(lambda: client.get("/readyz").status_code == 200)
        jobs = [submit(client, digits(epochs=None, max_steps=100_000_000, batch_size=16)) for _ in range(8)]
        began, taken_by_reads = time.monotonic(), []
        for number in range(20 * 60):
            time.sleep(max(0.0, began + number / 20 - time.monotonic()))
            asked = time.monotonic()
            answer = client.get(f"/v1/runs/{jobs[number % 8]['id']}/curves?metric=train_loss&points=1000")
            taken_by_reads.append(time.monotonic() - asked)
            # A job may not have begun when the first reads come.
            assert answer.status_code == 200 or (number < 100 and answer.status_code == 404), answer.text
        for job in jobs:
            client.post(f"/v1/jobs/{job['id']}/cancel")
            taken = finish(client, job)["progress"]["step"]
            loss = client.get(f"/v1/runs/{job['id']}").json()["metrics"]["train_loss"]
            assert loss["count"] == loss["last_step"] == taken > 1000
    assert sorted(taken_by_reads)[int(0.99 * len(taken_by_reads))] < 0.25
    aftermath.check_stopped(settings, [job["id"] for job in jobs])


def test_a_loss_that_is_not_a_number_is_kept_and_fails_the_job(admin: httpx.Client) -> None:
    spec = digits(optimizer="sgd", learning_rate=100.0, epochs=20) | {"name": "diverges"}
    job = train(admin, spec)
    assert (job["status"], job["error"]["code"]) == ("failed", "non_finite")
    assert "learning rate 100" in job["error"]["message"]
    curve = values(admin, job)
    assert curve["y"][-1] in ("NaN", "Infinity")
    assert all(isinstance(value, float) for value in curve["y"][:-1])
    run = admin.get(f"/v1/runs/{job['id']}").json()
    assert run["metrics"]["train_loss"]["last"] == curve["y"][-1]
    compared = f"/v1/compare?runs={job['id']}&metric=train_loss"
    curves = f"/v1/runs/{job['id']}/curves?metric=train_loss"
    paths = ["/v1/runs", "/v1/jobs", compared, curves, f"/v1/runs/{job['id']}", f"/v1/jobs/{job['id']}"]
    for path in paths:
        assert isinstance(json.loads(admin.get(path).raise_for_status().text, parse_constant=_refuse), dict)
    for path in ("/v1/runs?", "/v1/jobs?", f"{compared}&", f"{curves}&"):
        for form in ("csv", "ndjson", "text"):
            assert admin.get(f"{path}format={form}").status_code == 200
    csv = admin.get(f"/v1/runs/{job['id']}/curves?metric=train_loss&format=csv").text
    assert curve["y"][-1] in csv.splitlines()[-1]


def _refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is not JSON")


def test_training_goes_on_past_a_loss_that_is_not_a_number_when_the_spec_says_so(admin: httpx.Client) -> None:
    spec = digits(optimizer="sgd", learning_rate=100.0, epochs=5) | {"on_non_finite": "continue"}
    job = train(admin, spec)
    assert job["status"] == "succeeded"
    assert values(admin, job)["step"] == list(range(1, 116))


def test_lists_are_paged_without_a_gap_and_filtered(admin: httpx.Client) -> None:
    ids = [submit(admin, digits(max_steps=1, epochs=None) | {"tags": {"batch": "paging"}})["id"] for _ in range(5)]
    seen: list[str] = []
    after = ""
    while True:
        answer = admin.get(f"/v1/jobs?tag.batch=paging&limit=2{after}").json()
        seen += [job["id"] for job in answer["data"]]
        if not answer["has_more"]:
            break
        after = f"&after={answer['next_after']}"
    assert seen == ids[::-1]
    for form in ("json", "csv", "ndjson", "text"):
        whole = admin.get(f"/v1/jobs?tag.batch=paging&limit=5&format={form}")
        assert "X-Next-After" not in whole.headers
        page = admin.get(f"/v1/jobs?tag.batch=paging&limit=2&format={form}")
        assert page.headers["X-Next-After"] == seen[1]
        assert ("there are more" in page.text) == (form == "text")
    finish(admin, {"id": ids[-1]})
    assert admin.get("/v1/jobs?tag.batch=other").json()["data"] == []
    assert admin.get("/v1/jobs?status=succeeded&dataset=digits@1&task=classification&limit=200").json()["data"]
    assert admin.get("/v1/jobs?dataset=digits@9").json()["data"] == []
    assert admin.get("/v1/jobs?user=nobody").json()["data"] == []


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=-1", "limit=1000000000", "limit=x", "after=%27%3B--", "status=odd", "statsu=queued"),
        *("after=", "tag.=x", "status=running&status=queued", "tag.a=1&tag.a=2", "limit=1&limit=1"),
    ],
)
def test_a_wrong_query_is_refused_and_named(admin: httpx.Client, query: str) -> None:
    answer = admin.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["param"] == query.split("=")[0]


@pytest.mark.parametrize("value", ["%25", "%27", ";--", "%27%20OR%201=1", "(a%2B)%2B$", "x" * 50_000])
def test_filters_are_values_and_never_sql(admin: httpx.Client, value: str) -> None:
    for name in ("project", "user", "task", "dataset", "tag.x", "tag.%22%5D", "param.hyperparameters.learning_rate"):
        answer = admin.get(f"/v1/jobs?{name}={value}")
        assert answer.status_code in (200, 422, 400, 414, 431)
        if answer.status_code == 200:
            assert answer.json()["data"] == []


def test_runs_are_found_by_parameter_and_sorted_by_a_metric(admin: httpx.Client) -> None:
    for rate in (0.01, 0.0001, 0.003):
        train(admin, digits(learning_rate=rate) | {"tags": {"set": "sorting"}})
    best = admin.get("/v1/runs?tag.set=sorting&sort=val_accuracy.best").json()["data"]
    accuracies = [run["metrics"]["val_accuracy"]["best"] for run in best]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(accuracies) == 3
    worst_first = admin.get("/v1/runs?tag.set=sorting&sort=-val_loss.last").json()["data"]
    losses = [run["metrics"]["val_loss"]["last"] for run in worst_first]
    assert losses == sorted(losses, reverse=True)
    paged = admin.get(f"/v1/runs?tag.set=sorting&sort=val_accuracy.best&after={best[0]['id']}").json()["data"]
    assert [run["id"] for run in paged] == [run["id"] for run in best[1:]]
    found = admin.get("/v1/runs?tag.set=sorting&param.hyperparameters.learning_rate=1e-4").json()["data"]
    assert [run["parameters"]["hyperparameters.learning_rate"] for run in found] == [0.0001]
    assert admin.get("/v1/runs?sort=odd").status_code == 422
    by_loss = admin.get("/v1/runs?tag.set=sorting&format=csv").text.partition("\n")[0].split(",")
    by_recall = (
        admin.get("/v1/runs?tag.set=sorting&sort=-val_recall.best&format=csv").text.partition("\n")[0].split(",")
    )
    first_metric = by_loss.index("duration_seconds") + 1
    assert by_loss[first_metric : first_metric + 2] == ["val_loss.best", "val_accuracy.best"]
    assert by_recall[first_metric : first_metric + 2] == ["val_recall.best", "val_loss.best"]


def test_names_that_are_formulas_are_defused_in_csv(admin: httpx.Client) -> None:
    for name in ('=HYPERLINK("http://x")', "+1", "-1", "@x", "\tx"):
        submit(admin, digits(max_steps=1, epochs=None) | {"name": name, "tags": {"set": "formulas"}})
    text = admin.get("/v1/jobs?tag.set=formulas&format=csv").text
    assert all(f"'{start}" in text for start in ("=HYPERLINK", "+1", "-1", "@x", "\tx"))
    run = admin.post("/v1/runs", json={"name": "numbers"}).json()["id"]
    points = [{"metric": "loss", "step": step, "value": value} for step, value in ((1, -1.5), (2, -1e-20))]
    admin.post(f"/v1/runs/{run}/points", json={"points": points})
    text = admin.get(f"/v1/runs/{run}/curves?metric=loss&format=csv").text
    assert ",-1.5," in text
    assert ",-1e-20," in text
    assert "'" not in text, "numbers are left as they are"


def test_what_is_submitted_is_read_by_the_team_and_changed_by_its_owner_alone(
    box: Box, admin: httpx.Client, long_job: dict[str, Any]
) -> None:
    with box.speaking_as("eve") as eve, box.speaking_as("ron", Scope.READ) as ron:
        assert eve.get(f"/v1/jobs/{long_job['id']}").status_code == 200
        refused = eve.post(f"/v1/jobs/{long_job['id']}/cancel")
        assert (refused.status_code, refused.json()["code"]) == (403, "not_owner")
        assert ron.post("/v1/jobs", json=digits()).json()["code"] == "insufficient_scope"
        own = submit(eve, digits(max_steps=1, epochs=None))
        assert own["user"] == "eve"
        assert admin.post(f"/v1/jobs/{own['id']}/cancel").status_code in (202, 409)


def test_a_private_project_does_not_exist_for_others(box: Box, admin: httpx.Client) -> None:
    with box.speaking_as("ann") as ann, box.speaking_as("bob") as bob:
        assert ann.put("/v1/projects/secret", json={"visibility": "private"}).status_code in (200, 201)
        job = train(ann, digits(max_steps=2, epochs=None) | {"project": "secret", "tags": {"set": "secret"}})
        unknown = bob.get("/v1/jobs/00000000-0000000").json()
        for path in (
            f"/v1/jobs/{job['id']}",
            f"/v1/jobs/{job['id']}/result",
            f"/v1/jobs/{job['id']}/logs",
            f"/v1/runs/{job['id']}",
            f"/v1/runs/{job['id']}/curves?metric=train_loss",
            f"/v1/compare?runs={job['id']}&metric=train_loss",
        ):
            assert ann.get(path).status_code == 200, path
            answer = bob.get(path)
            assert answer.status_code == 404
            assert answer.json()["type"] == unknown["type"]
        assert bob.post(f"/v1/jobs/{job['id']}/cancel").status_code == 404
        assert bob.get("/v1/jobs?tag.set=secret").json()["data"] == []
        assert bob.get("/v1/runs?tag.set=secret").json()["data"] == []
        assert bob.get("/v1/compare?tag.set=secret&metric=train_loss").json()["runs"] == []
        assert bob.get(f"/v1/jobs?after={job['id']}").json()["data"] == []
        assert bob.post("/v1/jobs", json=digits() | {"project": "secret"}).status_code == 404
        assert "secret" not in bob.get("/v1/projects").text
        assert admin.get(f"/v1/jobs/{job['id']}").status_code == 200


NO_ID = "00000000-0000000"
BODIES: dict[str, Any] = {
    "predictions": {"inputs": [[0.0] * 64]},
    "points": {"points": [{"metric": "loss", "step": 1, "value": 1.0}]},
    "finish": {"status": "failed"},
}


def test_every_route_answers_for_what_is_private_as_for_what_is_not_there(box: Box) -> None:
    """S07."""
    one_step = digits(max_steps=1, epochs=None) | {"project": "hidden"}
    with box.speaking_as("ann") as ann, box.speaking_as("bob") as bob:
        assert ann.put("/v1/projects/hidden", json={"visibility": "private"}).status_code in (200, 201)
        job = train(ann, one_step)["id"]
        grid = {"kind": "grid", "base": one_step, "grid": {"hyperparameters.learning_rate": [0.1, 0.01]}}
        ids = {"job_id": job, "run_id": job, "study_id": ann.post("/v1/studies", json=grid).json()["id"]}
        places = {(method, path) for method, path in routes(box.server) if set(path.split("/")) & ids.keys()}
        assert {("GET", "/v1/jobs/job_id/logs"), ("DELETE", "/v1/jobs/job_id")} <= places
        for method, path in sorted(places):
            [name] = set(path.split("/")) & ids.keys()
            sent: dict[str, Any] = {"params": {"metric": "train_loss"}} if path.endswith("/curves") else {}
            if method in ("POST", "PATCH"):
                sent["json"] = BODIES.get(path.rpartition("/")[2], {})
            place = path.replace("/which/", "/last/")
            hidden, unknown = (bob.request(method, place.replace(name, each), **sent) for each in (ids[name], NO_ID))
            assert hidden.status_code == unknown.status_code == 404, (method, path)
            assert told(hidden) == told(unknown), (method, path)
        for name, named in (
            ("job_id", lambda each: {"depends_on": [each]}),
            ("study_id", lambda each: {"hyperparameters": {"learning_rate": {"from_study": each}}}),
        ):
            hidden, unknown = (bob.post("/v1/jobs", json=digits() | named(each)) for each in (ids[name], NO_ID))
            assert hidden.status_code == unknown.status_code == 422
            assert told(hidden) == told(unknown), name
        assert ann.get(f"/v1/jobs/{job}").json()["status"] == "succeeded"


def told(answer: httpx.Response) -> dict[str, Any]:
    """A problem without the number of its request."""
    body: dict[str, Any] = answer.json() if answer.content else {}
    return {name: value for name, value in body.items() if name != "request_id"}


def test_a_full_queue_refuses_with_the_time_to_come_back(
    serve: Serve, settings: Settings, make_token: MakeToken
) -> None:
    # No worker here: what is queued stays queued.
    database = Database(settings.database_path)
    datasets.furnish(database, settings.datasets_path)
    database.close()
    small = settings.model_copy(update={"max_queued_jobs_per_user": 2, "max_queued_jobs": 3})
    server = serve(with_settings=small)

    def speaking_as(user: str) -> httpx.Client:
        return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {make_token(user=user)}"})

    with speaking_as("ada") as ada, speaking_as("bob") as bob:
        assert [ada.post("/v1/jobs", json=digits()).status_code for _ in range(3)] == [201, 201, 429]
        before = ada.get("/v1/jobs").json()["data"]
        refused = ada.post("/v1/jobs", json=digits())
        assert int(refused.headers["Retry-After"]) > 0
        assert "this user" in refused.json()["detail"]
        assert [bob.post("/v1/jobs", json=digits()).status_code for _ in range(2)] == [201, 429]
        assert "all users" in bob.post("/v1/jobs", json=digits()).json()["detail"]
        listed = ada.get("/v1/jobs").json()["data"]
        assert len(listed) == 3
        assert [job for job in listed if job["user"] == "ada"] == before


def test_ndjson_has_a_job_a_line(admin: httpx.Client, finished: dict[str, Any]) -> None:
    answer = admin.get("/v1/jobs?limit=3", headers={"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert {line["object"] for line in lines} == {"job"}

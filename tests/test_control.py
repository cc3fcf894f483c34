"""What is done to a job that exists: retry, clone, relabel, delete, pause, and jobs that wait for others."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from boxes import digits, finish, submit, train, values
from conftest import Box, Until

from service.api.views.jobs import ClonedJob

Job = dict[str, Any]
SHORT = {"max_steps": 2, "epochs": None}


@pytest.fixture(scope="module")
def finished(box: Box) -> Job:
    return train(box.admin, digits(**SHORT))


@pytest.fixture(scope="module")
def failed(box: Box) -> Job:
    return train(box.admin, digits(optimizer="sgd", learning_rate=100.0, epochs=20))


@pytest.fixture
def blocker(admin: httpx.Client, until: Until) -> Iterator[Job]:
    """Holds both slots, so that what is submitted waits."""
    job = submit(admin, digits(epochs=100_000) | {"resources": {"threads": 2}})
    until(lambda: admin.get(f"/v1/jobs/{job['id']}").json()["status"] == "running")
    yield job
    admin.post(f"/v1/jobs/{job['id']}/cancel")
    finish(admin, job)


def act(client: httpx.Client, job: Job, what: str, **kwargs: Any) -> httpx.Response:
    return client.post(f"/v1/jobs/{job['id']}/{what}", **kwargs)


def test_a_failed_job_is_retried_as_a_new_one_and_its_curve_stays(admin: httpx.Client, failed: Job) -> None:
    before = values(admin, failed)
    answer = act(admin, failed, "retry")
    assert answer.status_code == 201
    again = finish(admin, answer.json())
    assert again["id"] != failed["id"]
    assert again["retry_of"] == failed["id"]
    assert again["spec"] == failed["spec"] | {"dataset": "digits@1"}
    assert values(admin, failed) == before
    assert values(admin, again)["y"] == before["y"]


def test_what_succeeded_or_runs_is_not_retried(admin: httpx.Client, finished: Job, blocker: Job) -> None:
    assert act(admin, finished, "retry").status_code == 409
    assert act(admin, blocker, "retry").status_code == 409


def test_a_retry_with_the_same_key_is_one_job(admin: httpx.Client, failed: Job) -> None:
    answers = [act(admin, failed, "retry", headers={"Idempotency-Key": "again"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]


def test_a_clone_says_what_each_change_means(admin: httpx.Client, finished: Job) -> None:
    patch = {"hyperparameters": {"batch_size": 128, "max_steps": None, "epochs": 3}, "name": "larger batch"}
    answer = act(admin, finished, "clone", json=patch)
    assert answer.status_code == 201, answer.text
    ClonedJob.model_validate_json(answer.content)
    clone = answer.json()
    assert clone["name"] == "larger batch"
    changes = {change["param"]: change for change in clone["changes"]}
    assert set(changes) == {
        "hyperparameters.batch_size",
        "hyperparameters.epochs",
        "hyperparameters.max_steps",
    }
    assert (changes["hyperparameters.batch_size"]["from"], changes["hyperparameters.batch_size"]["to"]) == (64, 128)
    assert "12 steps an epoch instead of 23" in changes["hyperparameters.batch_size"]["meaning"]
    assert "36 steps instead of 2" in changes["hyperparameters.epochs"]["meaning"]
    assert changes["hyperparameters.epochs"]["meaning"].endswith("3 instead of 0.09 passes over the training samples")
    codes = [warning["code"] for warning in clone["warnings"]]
    assert codes == ["few_steps", "batch_size_changed_without_learning_rate"]
    assert finish(admin, clone)["progress"]["step"] == 36


def test_every_hyperparameter_has_a_sentence_of_its_own_for_what_its_change_means(
    admin: httpx.Client, finished: Job
) -> None:
    chosen = {"optimizer": "sgd", "momentum": 0.5, "loss": "bce", "lr_schedule": "cosine", "warmup_steps": 2}
    chosen |= {"max_grad_norm": 1.0, "drop_last": True, "shuffle": False, "seed": 1, "weight_decay": 0.1}
    patch = {"dataset": "breast_cancer", "model": {"activation": "tanh"}, "hyperparameters": chosen}
    changes = act(admin, finished, "clone?dry_run=true", json=patch).json()["changes"]
    meanings = {change["param"].rpartition(".")[2]: change["meaning"] for change in changes}
    assert set(meanings) == {*chosen, "dataset", "activation"}
    assert meanings["momentum"].startswith("each step follows the gradients of about the last 2 steps")
    assert meanings["warmup_steps"] == "the learning rate rises from 0 over 2 steps instead of 0"
    assert meanings["drop_last"] == "the smaller last batch of an epoch is left out: 7 steps an epoch instead of 23"
    assert not [meaning for meaning in meanings.values() if meaning.endswith(("is changed", "instead of None"))]


def test_naming_steps_in_a_clone_takes_the_place_of_epochs(admin: httpx.Client) -> None:
    job = train(admin, digits(epochs=1))
    clone = act(admin, job, "clone", json={"hyperparameters": {"max_steps": 3, "learning_rate": 0.01}}).json()
    assert clone["plan"]["total_steps"] == 3
    meaning = {change["param"]: change["meaning"] for change in clone["changes"]}["hyperparameters.learning_rate"]
    assert meaning == "each step moves the weights 10 times as far"


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        ({"hyperparameters": {"learning_rate": -1}}, "hyperparameters.learning_rate"),
        ({"hyperparameter": {}}, "hyperparameter"),
        ({"dataset": None}, "dataset"),
        ({"model": {"type": "linear", "hidden_sizes": [8]}}, "model.hidden_sizes"),
        ({"model": {"type": "liner"}}, "model.type"),
    ],
)
def test_a_clone_that_cannot_be_is_refused_by_field(admin: httpx.Client, finished: Job, patch: Job, param: str) -> None:
    answer = act(admin, finished, "clone", json=patch)
    assert answer.status_code == 422
    assert param in [problem["param"] for problem in answer.json()["errors"]]


def test_everything_wrong_with_a_clone_is_told_at_once(admin: httpx.Client, finished: Job) -> None:
    rate = '{"from_study": "no"}'
    body = f'{{"hyperparameters": {{"learning_rate": {rate}, "momentum": NaN, "seed": "x"}}, "nmae": "y"}}'
    for query in ("", "?dry_run=true"):
        answer = act(admin, finished, f"clone{query}", content=body, headers={"Content-Type": "application/json"})
        told = {problem["param"]: problem["code"] for problem in answer.json()["errors"]}
        path = "hyperparameters"
        assert told.pop(f"{path}.learning_rate.from_study") == "unknown_study"
        assert told.keys() == {f"{path}.momentum", f"{path}.seed", "nmae"}


def test_another_model_in_a_clone_drops_the_fields_that_it_has_not(admin: httpx.Client, finished: Job) -> None:
    answer = act(admin, finished, "clone?dry_run=true", json={"model": {"type": "linear"}}).json()
    assert answer["spec"]["model"] == {"type": "linear"}
    meanings = {change["param"]: change["meaning"] for change in answer["changes"]}
    assert meanings.pop("model.type").startswith("linear instead of mlp")
    assert meanings.keys() == {f"model.{name}" for name in ("hidden_sizes", "activation", "normalization", "dropout")}
    assert set(meanings.values()) == {"linear has no such field"}
    assert act(admin, finished, "clone?dry_run=true", json={"model": None}).json()["changes"] == []
    answer = act(admin, finished, "clone?dry_run=true", json={"model": {"type": "mlp", "dropout": 0.5}}).json()
    assert [change["param"] for change in answer["changes"]] == ["model.dropout"]


def test_a_clone_with_the_same_key_is_the_first_one_whatever_has_happened_since(
    admin: httpx.Client, blocker: Job
) -> None:
    """Even when it could not be made any more: the job that it depends on has been cancelled."""
    needed, original = (submit(admin, digits(**SHORT)) for _ in range(2))
    body = {"depends_on": [needed["id"]], "hyperparameters": {"seed": 5}}
    headers = {"Idempotency-Key": "one-clone"}
    first = act(admin, original, "clone", json=body, headers=headers)
    act(admin, needed, "cancel")
    again = act(admin, original, "clone", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json()["id"], again.json()["changes"]) == (first.json()["id"], first.json()["changes"])
    assert admin.delete(f"/v1/jobs/{first.json()['id']}").status_code == 204
    gone = act(admin, original, "clone", json=body, headers=headers)
    assert (gone.status_code, gone.json()["code"]) == (409, "made_and_gone")


def test_a_job_is_relabelled(admin: httpx.Client, finished: Job) -> None:
    path = f"/v1/jobs/{finished['id']}"
    assert admin.patch(path, json={"name": "renamed", "tags": {"a": "1", "b": "2"}}).json()["name"] == "renamed"
    assert admin.patch(path, json={"tags": {"a": None}}).json()["tags"] == {"b": "2"}
    assert admin.get(f"/v1/runs/{finished['id']}").json()["name"] == "renamed"
    assert [job["id"] for job in admin.get("/v1/jobs?tag.b=2").json()["data"]] == [finished["id"]]
    assert admin.patch(path, json={"priority": 5}).status_code == 409
    assert admin.patch(path, json={"status": "failed"}).json()["errors"][0]["param"] == "status"
    nothing = admin.patch(path, json={"name": None, "tags": None, "priority": None})
    assert [problem["param"] for problem in nothing.json()["errors"]] == ["name", "priority", "tags"]


def test_a_waiting_job_with_a_higher_priority_starts_first(admin: httpx.Client, blocker: Job) -> None:
    first, second = (submit(admin, digits(**SHORT)) for _ in range(2))
    assert admin.patch(f"/v1/jobs/{second['id']}", json={"priority": 7}).json()["priority"] == 7
    act(admin, blocker, "cancel")
    assert finish(admin, second)["started_at"] <= finish(admin, first)["started_at"]


def test_what_is_over_is_deleted_with_all_it_left(admin: httpx.Client, box: Box, blocker: Job) -> None:
    waiting = submit(admin, digits(**SHORT))
    assert admin.delete(f"/v1/jobs/{waiting['id']}").status_code == 409
    act(admin, blocker, "cancel")
    job = finish(admin, waiting)
    folder = box.settings.jobs_path / job["id"]
    assert folder.is_dir()
    assert admin.delete(f"/v1/jobs/{job['id']}").status_code == 204
    for path in (f"/v1/jobs/{job['id']}", f"/v1/runs/{job['id']}", f"/v1/runs/{job['id']}/curves?metric=train_loss"):
        assert admin.get(path).status_code == 404
    assert not folder.exists()


def test_the_run_of_a_job_goes_with_the_job_alone(admin: httpx.Client, finished: Job) -> None:
    answer = admin.delete(f"/v1/runs/{finished['id']}")
    assert answer.status_code == 409
    assert "it is deleted with the job" in answer.json()["detail"]


def test_only_its_owner_changes_a_job(box: Box, finished: Job, failed: Job) -> None:
    with box.speaking_as("eve") as eve:
        assert eve.patch(f"/v1/jobs/{finished['id']}", json={"name": "x"}).status_code == 403
        assert eve.delete(f"/v1/jobs/{finished['id']}").status_code == 403
        assert act(eve, finished, "pause").status_code == 403
        own = act(eve, failed, "retry").json()
        assert (own["user"], own["retry_of"]) == ("eve", failed["id"])


def test_a_waiting_job_is_paused_and_resumed(admin: httpx.Client, blocker: Job) -> None:
    job = submit(admin, digits(**SHORT))
    paused = act(admin, job, "pause")
    assert (paused.status_code, paused.json()["status"]) == (202, "paused")
    assert act(admin, job, "pause").status_code == 200
    resumed = act(admin, job, "resume")
    assert (resumed.status_code, resumed.json()["status"]) == (202, "queued")
    assert act(admin, job, "resume").status_code == 409
    act(admin, blocker, "cancel")
    assert finish(admin, job)["status"] == "succeeded"


def test_a_paused_job_can_be_cancelled(admin: httpx.Client, blocker: Job) -> None:
    job = submit(admin, digits(**SHORT))
    act(admin, job, "pause")
    assert act(admin, job, "cancel").json()["status"] == "cancelled"


def test_a_job_waits_until_the_ones_it_depends_on_have_succeeded(admin: httpx.Client, until: Until) -> None:
    first = submit(admin, digits(epochs=20))
    second = submit(admin, digits(**SHORT) | {"depends_on": [first["id"]], "priority": 9})
    assert "depends" in second["status_reason"]["message"]
    assert finish(admin, second)["started_at"] >= finish(admin, first)["finished_at"]


def test_a_failed_dependency_fails_its_dependents_with_the_reason(admin: httpx.Client, blocker: Job) -> None:
    first = submit(admin, digits(**SHORT))
    second = submit(admin, digits(**SHORT) | {"depends_on": [first["id"]]})
    third = submit(admin, digits(**SHORT) | {"depends_on": [second["id"]]})
    act(admin, first, "cancel")
    for job, needed in ((second, first), (third, second)):
        ended = finish(admin, job)
        assert (ended["status"], ended["status_reason"]["code"], ended["attempt"]) == ("failed", "dependency_failed", 0)
        assert needed["id"] in ended["error"]["message"]


def test_a_dependency_that_cannot_succeed_or_is_unknown_is_refused(admin: httpx.Client, failed: Job) -> None:
    spec = digits() | {"depends_on": [failed["id"], "00000000-0000000", "x"]}
    problems = admin.post("/v1/jobs", json=spec).json()["errors"]
    assert [(problem["param"], problem["code"]) for problem in problems] == [
        ("depends_on.2", "string_pattern_mismatch"),
        ("depends_on.0", "never_succeeds"),
        ("depends_on.1", "unknown_job"),
    ]

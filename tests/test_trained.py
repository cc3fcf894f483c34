"""What a trained job is good for, what one will cost, and what becomes of one that is too large for its device."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import shelves
from boxes import digits, train, values, worker
from conftest import Box
from sklearn import datasets
from typer import BadParameter

from service import errands, memory, plan as plans, raw_spec
from service.api.predictions import PredictionList
from service.api.views.jobs import DryRun
from service.cli import predict
from service.database import Database
from service.errors import ErrandFailed, ErrandsBusy, InvalidInput, Stopping
from service.settings import Settings
from workers.training import loop, prediction, preprocessing, weights

Spec = dict[str, Any]

CNN = {"type": "cnn", "width": 4}
GPT = {"type": "gpt", "layers": 1, "heads": 2, "width": 16, "context": 8}


@pytest.fixture(scope="module")
def stocked(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Box:
    """The shared service with images and a text beside its tables."""
    folder = tmp_path_factory.mktemp("shelves")
    shelves.put(box.settings, shelves.images(folder / "images"), "pictures")
    shelves.put(box.settings, shelves.text(folder / "text"), "tale")
    return box


@pytest.fixture(scope="module")
def trained(stocked: Box) -> Spec:
    return train(stocked.admin, digits(epochs=5))


def asked(client: httpx.Client, job: Spec, **body: Any) -> httpx.Response:
    return client.post(f"/v1/jobs/{job['id']}/predictions", json=body)


# Predictions


def test_predictions_are_those_of_the_model_that_was_trained(stocked: Box, trained: Spec) -> None:
    digits_seen = datasets.load_digits()
    answer = asked(stocked.admin, trained, inputs=digits_seen.data[:50].tolist(), checkpoint="last")
    assert answer.status_code == 200, answer.text
    found = PredictionList.model_validate_json(answer.content)
    assert found.step == trained["plan"]["total_steps"]
    right = [each["value"] == truth for each, truth in zip(found.data, digits_seen.target[:50], strict=True)]
    assert np.mean(right) > 0.9
    assert all(sum(each["probabilities"]) == pytest.approx(1, abs=1e-5) for each in found.data)
    assert all(each["class"] == str(each["value"]) for each in found.data)


@pytest.mark.parametrize(
    ("inputs", "params"),
    [
        (
            [[0.0] * 64, [0.0] * 63, "seven", [[1.0]], None, {"pixle": 1}],
            ["inputs.1", "inputs.2", "inputs.3", "inputs.4", "inputs.5.pixle"],
        ),
        ([], ["inputs"]),
        ([[0.0]] * 1001, ["inputs"]),
    ],
)
def test_samples_that_do_not_fit_are_named(stocked: Box, trained: Spec, inputs: Any, params: list[str]) -> None:
    answer = asked(stocked.admin, trained, inputs=inputs)
    assert answer.status_code == 422
    assert [error["param"] for error in answer.json()["errors"]] == params


def test_predictions_of_what_does_not_exist_are_not_found(stocked: Box, trained: Spec) -> None:
    assert asked(stocked.admin, {"id": "00000000-0000000"}, inputs=[[1]]).status_code == 404
    assert asked(stocked.admin, trained, inputs=[[1]], checkpoint=1).status_code == 404
    assert asked(stocked.admin, trained, inputs=[[1]], checkpoint="worst").status_code == 422


def test_the_command_line_predicts_from_a_file(stocked: Box, trained: Spec, tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    rows = datasets.load_digits().data[:2]
    path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    command = [sys.executable, "-m", "service.cli", "predict", trained["id"], str(path)]
    place = {"TRAINBOX_URL": stocked.server.url, "TRAINBOX_TOKEN": stocked.settings.token_path.read_text().strip()}
    done = subprocess.run(command, env=os.environ | place, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["0", "1"]


def test_a_file_of_samples_is_read_as_an_upload_is(tmp_path: Path) -> None:
    """Codes that begin with 0 stay texts where a word stands among them; NA is an empty cell only among numbers."""
    path = tmp_path / "samples.csv"
    path.write_text("\ufeffage, code,when\n NaN,01,2026-01-31\n\n41,NA,\n", encoding="utf-8")
    assert predict.read(path) == [
        {"age": None, "code": 1.0, "when": "2026-01-31"},
        {"age": 41.0, "code": None, "when": None},
    ]
    path.write_text("1,NA\n2,x\n")
    assert predict.read(path) == [[1.0, "NA"], [2.0, "x"]]
    path.write_text("age,code\n")
    assert predict.read(path) == []
    for wrong, told in (
        ("age,code\n1,2\n3\n", "line 3 has 1 value, and the first line has 2"),
        ('a\n"b', "cannot be read"),
    ):
        path.write_text(wrong)
        with pytest.raises(BadParameter, match=told):
            predict.read(path)


def test_a_category_is_meant_by_the_number_or_the_truth_value_that_its_text_says() -> None:
    values: list[list[str] | None] = [["01", "1234567", "x"], ["False", "True"]]
    fitted = preprocessing.Preprocessing(["code", "flag"], values, [0.0, 0.0], [1.0, 1.0], "refuse")
    assert [prediction._cell(fitted, 0, cell) for cell in (1, 1.0, "01", 1234567.0, "x")] == [0, 0, 0, 1, 2]
    assert [prediction._cell(fitted, 1, cell) for cell in (True, False, "True", "true")] == [1, 0, 1, 1]
    for column, cell in ((0, 2), (0, True), (0, "1"), (1, 1), (1, None), (0, [1]), (0, {})):
        with pytest.raises(prediction._Misfit):
            prediction._cell(fitted, column, cell)


@pytest.mark.parametrize("given", ["1", [["1", 2]], [[True]], [[1, None]], [[1], [1, 2]], [[1e999]], [], {}, [10**99]])
def test_an_image_is_nothing_but_numbers(given: Any) -> None:
    with pytest.raises(prediction._Misfit):
        prediction._numbers(given)


def test_no_more_errands_are_done_at_a_time_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(errands, "_free", threading.BoundedSemaphore(1))
    assert errands._free.acquire()
    with pytest.raises(ErrandsBusy):
        errands.run("predict", {}, threading.Event())


def test_an_errand_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(errands, "LONGEST_SECONDS", 0.02)
    with pytest.raises(ErrandFailed, match="was not done"):
        errands.run("predict", {}, threading.Event())


def test_an_errand_that_the_service_does_not_wait_for_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "LOOK_SECONDS", 0.01)
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopping):
        errands.run("predict", {}, stopping)


# Images and texts, from the submission to the model's use


def test_images_and_texts_are_trained_over_http_and_their_models_used(stocked: Box, tmp_path: Path) -> None:
    admin = stocked.admin
    pictures: Spec = {"task": "classification", "dataset": "pictures", "model": CNN}
    pictures["hyperparameters"] = {"epochs": 6, "learning_rate": 0.01, "batch_size": 16, "precision": "bfloat16"}
    job = train(admin, pictures)
    assert job["status"] == "succeeded", job["error"]
    path = downloaded(admin, job, tmp_path)
    found = prediction.predict(path, [np.full((6, 6), 20).tolist(), np.full((1, 6, 6), 200).tolist()], 1, ["a", "b"])
    assert [each["class"] for each in found] == ["a", "b"]
    with pytest.raises(InvalidInput) as caught:
        prediction.predict(path, [np.full((6, 6), 256).tolist(), np.full((5, 6), 1).tolist()], 1, None)
    assert [problem.param for problem in caught.value.problems] == ["inputs.0", "inputs.1"]

    tale = {"task": "language_modeling", "dataset": "tale", "model": GPT}
    job = train(admin, tale | {"hyperparameters": {"max_steps": 150, "learning_rate": 0.01, "batch_size": 32}})
    assert job["status"] == "succeeded", job["error"]
    assert len(values(admin, job, "val_perplexity")["y"]) == job["plan"]["validations"]
    path = downloaded(admin, job, tmp_path)
    [told] = prediction.predict(path, ["She sells sea shel"], 3, None)
    assert told["continuation"].startswith("l")
    assert weights.load(path).spec.model.type == "gpt"


def downloaded(client: httpx.Client, job: Spec, folder: Path) -> Path:
    path = folder / "weights.safetensors"
    path.write_bytes(client.get(f"/v1/jobs/{job['id']}/checkpoints/last/weights").content)
    return path


def test_a_cnn_wants_images_and_a_text_its_own_task(stocked: Box) -> None:
    for spec, param in (
        ({"task": "classification", "dataset": "digits", "model": CNN}, "model.type"),
        ({"task": "classification", "dataset": "tale"}, "task"),
        ({"task": "language_modeling", "dataset": "digits"}, "task"),
    ):
        answer = stocked.admin.post("/v1/jobs", json=spec)
        assert answer.status_code == 422
        assert param in [error["param"] for error in answer.json()["errors"]]


# Early stopping


def test_a_job_that_stops_early_has_succeeded_and_says_so(stocked: Box) -> None:
    spec = digits(epochs=200, learning_rate=0.05) | {"early_stopping": {"metric": "val_accuracy", "patience": 3}}
    job = train(stocked.admin, spec)
    assert (job["status"], job["status_reason"]["code"]) == ("succeeded", "stopped_early")
    step = job["progress"]["step"]
    assert step < job["plan"]["total_steps"]
    assert values(stocked.admin, job)["step"] == list(range(1, step + 1))
    accuracy = values(stocked.admin, job, "val_accuracy")
    best = int(np.argmax(accuracy["y"]))
    assert len(accuracy["y"]) == best + 1 + 3
    assert job["status_reason"]["message"].startswith(
        f"stopped early after step {step}: val_accuracy has not improved on"
    )
    kept = stocked.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()["data"]
    assert [each["step"] for each in kept if each["is_best"]] == [accuracy["step"][best]]
    assert stocked.admin.get(f"/v1/jobs/{job['id']}/result").status_code == 200
    events = [event["code"] for event in stocked.admin.get(f"/v1/jobs/{job['id']}/events").json()["data"]]
    assert events[-1] == "stopped_early"


# What a job will cost


def test_a_probe_measures_a_few_real_steps_and_creates_nothing(stocked: Box) -> None:
    before = [job["id"] for job in stocked.admin.get("/v1/jobs").json()["data"]]
    answer = stocked.admin.post("/v1/jobs", params={"dry_run": True, "probe": True}, json=digits(epochs=40))
    assert answer.status_code == 200, answer.text
    found = DryRun.model_validate_json(answer.content)
    assert found.probe is not None
    assert found.probe.parameters == 64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    assert 0 < found.probe.seconds_per_step < 1
    assert 50 < found.probe.peak_memory_mib < 4000
    assert found.plan.estimated_seconds == pytest.approx(found.probe.estimated_seconds)
    assert found.plan.estimate_basis == f"a probe of {found.probe.steps} steps"
    assert [job["id"] for job in stocked.admin.get("/v1/jobs").json()["data"]] == before


def test_a_probe_is_a_part_of_a_dry_run(stocked: Box) -> None:
    answer = stocked.admin.post("/v1/jobs", params={"probe": True}, json=digits())
    assert answer.status_code == 422
    assert [error["param"] for error in answer.json()["errors"]] == ["probe"]


def test_finished_runs_of_the_same_shape_tell_how_long_one_takes(stocked: Box) -> None:
    spec = digits(epochs=3, batch_size=77)
    dry = {"dry_run": True}
    assert stocked.admin.post("/v1/jobs", params=dry, json=spec).json()["plan"]["estimated_seconds"] is None
    first = train(stocked.admin, spec)
    longer = digits(epochs=6, batch_size=77)
    plan = stocked.admin.post("/v1/jobs", params=dry, json=longer).json()["plan"]
    assert plan["estimate_basis"] == "1 finished run of the same shape"
    took = stocked.admin.get(f"/v1/runs/{first['id']}").json()["duration_seconds"]
    assert plan["estimated_seconds"] == pytest.approx(2 * took)
    other = digits(epochs=6, batch_size=78)
    assert stocked.admin.post("/v1/jobs", params=dry, json=other).json()["plan"]["estimated_seconds"] is None


# A device that is too small

# Python runs this file before anything else: models of this process want no more than ten samples at a time.
NARROW = """
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

class Narrow(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "workers.training.models":
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            build = module.build
            def narrow(*arguments):
                import torch
                def look(_, inputs):
                    if torch.is_grad_enabled() and len(inputs[0]) > 10:
                        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
                made = build(*arguments)
                made.register_forward_pre_hook(look)
                return made
            module.build = narrow
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Narrow())
"""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("narrow")
    (folder / "sitecustomize.py").write_text(NARROW)
    return folder


def test_a_job_too_large_for_its_device_is_computed_in_smaller_parts_with_the_same_batches(
    client: httpx.Client, settings: Settings, narrow: Path, tmp_path: Path
) -> None:
    shelves.put(settings, shelves.table(tmp_path / "t"), "rows")
    spec: Spec = {"task": "classification", "dataset": "rows", "hyperparameters": {"epochs": 3, "batch_size": 60}}
    spec["limits"] = {"max_attempts": 1}
    with worker(settings.home, PYTHONPATH=str(narrow)):
        job = train(client, spec)
        assert job["status"] == "succeeded", job
        events = client.get(f"/v1/jobs/{job['id']}/events").json()["data"]
        told = [event["message"] for event in events if event["code"] == "micro_batch_halved"]
        assert [message.rpartition("in ")[2] for message in told] == ["2 parts", "4 parts", "8 parts"]
        assert job["attempt"] == 4
        [doubt] = client.get(f"/v1/runs/{job['id']}").json()["inexact"][-1:]
        assert doubt["message"].endswith("computed in 8 parts instead of 1, which rounds in another way")
        again = train(client, spec)
        assert again["attempt"] == 1  # what was learned is remembered
        lone = train(client, spec | {"model": {"type": "linear"}, "hyperparameters": {"max_steps": 2, "batch_size": 8}})
        assert lone["status"] == "succeeded"
    shelf = shelves.table(tmp_path / "again")
    chosen = {"epochs": 3, "batch_size": 60, "gradient_accumulation": 8}
    losses = [step.loss.item() for step in loop.train(shelf.prepared(hyperparameters=chosen))]
    assert values(client, job)["y"] == losses == values(client, again)["y"]


def test_a_lone_sample_that_is_too_large_is_the_end(database: Database) -> None:
    spec = raw_spec.parse(digits(batch_size=6), lambda _: [])
    plan = plans.make(spec, 100)
    with database.write() as session:
        assert [memory.halve(session, "m", "d", plan, used) for used in (1, 2, 4, 6)] == [2, 4, 6, None]
        limits = memory.limits(session, "m")
        assert memory.limits(session, "another") == {}
    assert memory.parts(plan, limits["d"]) == 6
    assert memory.parts(plan, limits.get("another")) == 1
    assert memory.parts(plan.model_copy(update={"batch_size": 3}), limits["d"]) == 3

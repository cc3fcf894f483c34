"""A model and a task that other packages bring: those of the examples, found as installed packages' would be."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from boxes import FAULTY, dawdling, finish, submit, train, values
from conftest import Until
from sklearn import metrics
from test_cli import serving

from service.extensions import BadExtension, installed
from service.spec import Hyperparameters
from service.tasks import BUILT_IN
from workers.training.tasks import About, Given

EXAMPLES = Path(__file__).parent.parent / "examples"
EXAMPLE, COUNTING = EXAMPLES / "residual_mlp", EXAMPLES / "count_regression"
SMALL = {"type": "residual_mlp", "width": 8, "depth": 1, "dropout": 0.5}

Spec = dict[str, Any]


def install(folder: Path, points: dict[str, str]) -> None:
    """What pip leaves of a package with these entry points."""
    place = folder / "trainbox_further-0.1.0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: trainbox-further\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (place / "entry_points.txt").write_text("\n".join(["[trainbox.tasks]", *lines, ""]))


def path_of(*folders: Path) -> str:
    return os.pathsep.join(map(str, folders))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Speaks for the admin of a service beside which the examples are installed."""
    folder = tmp_path_factory.mktemp("extended")
    projects = [tomllib.loads((each / "pyproject.toml").read_text())["project"] for each in (EXAMPLE, COUNTING)]
    points = [project["entry-points"]["trainbox.tasks"] for project in projects]
    install(folder / "site", points[0] | points[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path_of(folder / "site", EXAMPLE, COUNTING, FAULTY))
        with serving(folder / "home", TRAINBOX_SLOTS="2") as box:
            token = (box.home / "admin.token").read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=box.environment["TRAINBOX_URL"], headers=headers, timeout=60) as opened:
                yield opened


def long(**more: Any) -> Spec:
    return {"task": "classification", "dataset": "iris", "model": SMALL, "hyperparameters": {"max_steps": 4000}, **more}


def test_it_is_listed_with_its_fields(client: httpx.Client) -> None:
    listed = client.get("/v1/tasks").json()
    told = {
        "type": "residual_mlp",
        "description": "Fully connected blocks with a way round each of them",
        "data": ["table"],
    }
    assert [told in task["models"] for task in listed["data"]] == [True, True, False, False]
    assert listed["spec"]["$defs"]["ResidualMlp"]["properties"]["width"]["maximum"] == 8192


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"model": {"type": "residual_mlp", "width": 0}}, "model.width"),
        ({"model": {"type": "residual_mlp", "depth": "2"}}, "model.depth"),
        ({"model": {"type": "residual_mlp", "widht": 8}}, "model.widht"),
        ({"model": {"type": "residual_mpl"}}, "model.type"),
        ({"task": "language_modeling"}, "model.type"),
    ],
)
def test_its_fields_are_validated_by_name(client: httpx.Client, changed: Spec, param: str) -> None:
    answer = client.post("/v1/jobs", json=long(**changed))
    assert answer.status_code == 422
    assert param in [error["param"] for error in answer.json()["errors"]]


def test_a_training_of_it_that_was_interrupted_is_one_that_was_not_and_its_weights_predict(
    client: httpx.Client, until: Until
) -> None:
    undisturbed = train(client, long())
    assert undisturbed["status"] == "succeeded", undisturbed["error"]
    job = submit(client, dawdling(long()))
    address = f"/v1/jobs/{job['id']}"
    until(lambda: (client.get(address).json()["progress"] or {"step": 0})["step"] > 0)
    assert client.post(f"{address}/pause").status_code == 202
    until(lambda: client.get(address).json()["status"] == "paused")
    assert client.post(f"{address}/resume").status_code == 202
    assert finish(client, job)["status"] == "succeeded"
    [resumed] = [event for event in client.get(f"{address}/events").json()["data"] if event["code"] == "resumed"]
    assert 0 < resumed["data"]["step"] < 4000
    assert resumed["data"]["exact"]
    for metric in ("train_loss", "val_loss"):
        assert values(client, job, metric) == values(client, undisturbed, metric) | {
            "x": values(client, job, metric)["x"]
        }
    answer = client.post(f"{address}/predictions", json={"inputs": [[5.1, 3.5, 1.4, 0.2]], "checkpoint": "last"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["value"] == 0


def test_two_processes_train_it_as_one_does(client: httpx.Client) -> None:
    short = long(model=SMALL | {"dropout": 0.0}, hyperparameters={"max_steps": 30})  # each process draws its own
    alone, together = train(client, short), train(client, short | {"resources": {"processes": 2}})
    assert together["status"] == "succeeded", together["error"]
    for metric in ("train_loss", "val_loss"):
        assert values(client, together, metric)["y"] == pytest.approx(values(client, alone, metric)["y"], rel=1e-4)


def counting(**more: Any) -> Spec:
    model = {"type": "mlp", "hidden_sizes": [8], "dropout": 0.2}
    return {"task": "count_regression", "dataset": "diabetes", "model": model, **more}


def test_a_further_task_is_listed_with_what_fits_it(client: httpx.Client) -> None:
    listed = client.get("/v1/tasks").json()
    [task] = [each for each in listed["data"] if each["name"] == "count_regression"]
    assert (task["targets"], task["losses"]) == ("numbers", ["poisson_nll"])
    assert [model["type"] for model in task["models"]] == ["linear", "mlp", "cnn"]
    directions = {each["name"]: each["direction"] for each in task["metrics"] if each["name"].startswith("val_")}
    assert directions == {"val_loss": "min", "val_deviance": "min", "val_d2": "max", "val_mae": "min"}
    fields = listed["spec"]["properties"], listed["spec"]["$defs"]
    assert "count_regression" in fields[0]["task"]["enum"]
    assert "val_d2" in fields[1]["EarlyStopping"]["properties"]["metric"]["enum"]
    assert "poisson_nll" in str(fields[1]["Hyperparameters"]["properties"]["loss"])
    assert "count_regression" in str(client.get("/openapi.json").json()["components"]["schemas"]["JobSpec"])


@pytest.mark.parametrize(
    ("changed", "param", "code"),
    [
        ({"hyperparameters": {"loss": "mse"}}, "hyperparameters.loss", "loss_does_not_fit"),
        ({"hyperparameters": {"label_smoothing": 0.1}}, "hyperparameters.label_smoothing", "loss_does_not_fit"),
        ({"early_stopping": {"metric": "val_r2"}}, "early_stopping.metric", "metric_does_not_fit"),
        ({"model": {"type": "gpt"}}, "model.type", "model_does_not_fit"),
        ({"dataset": "iris"}, "task", "task_does_not_fit"),
        (
            {"task": "regression", "hyperparameters": {"loss": "poisson_nll"}},
            "hyperparameters.loss",
            "loss_does_not_fit",
        ),
    ],
)
def test_what_does_not_fit_a_further_task_is_refused_by_name(
    client: httpx.Client, changed: Spec, param: str, code: str
) -> None:
    answer = client.post("/v1/jobs", json=counting(**changed))
    assert answer.status_code == 422
    assert (param, code) in [(error["param"], error["code"]) for error in answer.json()["errors"]]


def test_a_further_task_is_planned_and_completed_like_any_other(client: httpx.Client) -> None:
    raw = {"task": "count_regression", "dataset": "diabetes"}
    answer = client.post("/v1/jobs", params={"dry_run": True}, json=raw).json()
    assert answer["spec"]["model"] == {"type": "linear"}
    assert answer["spec"]["hyperparameters"]["loss"] == "poisson_nll"
    assert answer["plan"]["steps_per_epoch"] == 6


def test_a_further_task_that_was_interrupted_is_one_that_was_not_and_is_compared_by_its_metrics_and_predicts(
    client: httpx.Client, until: Until
) -> None:
    spec = counting(hyperparameters={"max_steps": 3000})
    undisturbed = train(client, spec)
    assert undisturbed["status"] == "succeeded", undisturbed["error"]
    job = submit(client, dawdling(spec))
    address = f"/v1/jobs/{job['id']}"
    until(lambda: (client.get(address).json()["progress"] or {"step": 0})["step"] > 0)
    assert client.post(f"{address}/pause").status_code == 202
    until(lambda: client.get(address).json()["status"] == "paused")
    assert client.post(f"{address}/resume").status_code == 202
    assert finish(client, job)["attempt"] == 2
    for metric in ("train_loss", "val_loss", "val_deviance", "val_d2", "val_mae"):
        assert values(client, job, metric)["y"] == values(client, undisturbed, metric)["y"]
    runs = f"{job['id']},{undisturbed['id']}"
    compared = client.get("/v1/compare", params={"runs": runs, "metric": "val_d2"}).json()
    assert compared["direction"] == "max"
    best = client.get(f"/v1/runs/{job['id']}").json()["metrics"]["val_d2"]
    assert 0.2 < best["best"] == best["max"] < 1
    answer = client.post(f"{address}/predictions", json={"inputs": [[0.0] * 10]})
    assert answer.status_code == 200, answer.text
    assert 50 < answer.json()["data"][0]["value"] < 350


def test_a_further_task_stops_early_by_a_metric_of_its_own(client: httpx.Client) -> None:
    stopping = {"metric": "val_d2", "patience": 2, "min_delta": 0.5}
    job = train(client, counting(early_stopping=stopping, hyperparameters={"epochs": 50}))
    assert job["status"] == "succeeded", job["error"]
    assert job["progress"]["step"] == 3 * 6
    assert "val_d2 has not improved" in job["status_reason"]["message"]


def test_a_further_task_says_itself_which_targets_it_cannot_learn(client: httpx.Client) -> None:
    table = "a,b\n" + "".join(f"{number},{number - 3.5}\n" for number in range(30))
    put = client.put("/v1/datasets/halves", params={"target": "b"}, content=table, headers={"Content-Type": "text/csv"})
    assert put.status_code == 201, put.text
    job = train(client, counting(dataset="halves"))
    assert job["status"] == "failed"
    assert job["error"]["message"] == "ValueError: counts are whole numbers from 0, and not all of them 0"


def test_the_scores_of_the_further_task_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(COUNTING)
    task_of = resolve_name("count_regression.trainer:CountRegression")
    chance = np.random.default_rng(0)
    counts = chance.poisson(3.0, (2, 50)).astype(np.float32)
    task, _, targets = task_of.begin(Hyperparameters(), Given(counts[0], counts[1], None))
    outputs = torch.from_numpy(chance.normal(0, 0.5, (50, 1)).astype(np.float32))
    halves = [task.tally(*half) for half in zip(torch.split(outputs, 30), torch.split(targets, 30), strict=True)]
    rates = [answer["value"] for answer in task.answers(outputs, About(task.kept, None))]
    assert task.scores(torch.stack(halves).sum(dim=0).tolist()) == pytest.approx(
        {
            "val_deviance": metrics.mean_poisson_deviance(counts[1], rates),
            "val_d2": metrics.d2_tweedie_score(counts[1], rates, power=1),
            "val_mae": metrics.mean_absolute_error(counts[1], rates),
        }
    )


@pytest.mark.parametrize("example", [EXAMPLE, COUNTING])
def test_the_example_jobs_are_accepted(client: httpx.Client, example: Path) -> None:
    answer = client.post("/v1/jobs", params={"dry_run": True}, json=json.loads((example / "job.json").read_text()))
    assert answer.status_code == 200, answer.text


def test_declarations_need_no_torch(tmp_path: Path) -> None:
    program = "import sys, residual_mlp, count_regression, service.raw_spec; assert 'torch' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": path_of(EXAMPLE, COUNTING)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)


HEAD = "from typing import Literal\nfrom service.extensions import Extension, FurtherModel, Task\n"
SOUND = {
    "name": "odd",
    "description": "of a test",
    "targets": "numbers",
    "data": ("table",),
    "losses": ("mse",),
    "models": ("mlp",),
    "metrics": {},
    "trainer": "odd:Odd",
}


def model(field: str, task: str = "regression") -> str:
    """A module that declares a model."""
    kind = f"class Odd(FurtherModel):\n    type: {field}\n"
    return f"{HEAD}{kind}ODD = Extension(Odd, ({task!r},), ('table',), 'odd:build')\n"


def task(**changes: Any) -> str:
    """A module that declares a task."""
    return f"{HEAD}ODD = Task(**{SOUND | changes})\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nowhere", "No module named 'nowhere'"),
        ("ODD = dict", "it is neither a Task nor an Extension of service.extensions"),
        (model('Literal["mlp"] = "mlp"'), "there is a model mlp already"),
        (model('str = "odd"'), "the type of its model is no literal with a default"),
        (model('Literal["odd"] = "odd"', "clustering"), "there is no task clustering of tables or images"),
        (
            model('Literal["odd"] = "odd"', "language_modeling"),
            "there is no task language_modeling of tables or images",
        ),
        (task(name="regression"), "there is a task regression already"),
        (task(models=("gtp",)), "there is no model gtp of tables or images"),
        (task(metrics={"val_r2": "min"}), "val_r2 has another direction in regression"),
        (task(metrics={"val_loss": "min"}), "val_loss is measured for every task"),
        (task(metrics={"accuracy": "max"}), "String should match pattern"),
        (task(losses=()), "at least 1 item"),
        (task(data=("text",), targets="bytes"), "texts are for language_modeling alone"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    install(tmp_path, {"odd": "odd_declaration:ODD"})
    (tmp_path / "odd_declaration.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_declaration", raising=False)
    with pytest.raises(BadExtension) as caught:
        installed(BUILT_IN)
    assert str(caught.value).startswith("the entry point odd = odd_declaration:ODD of trainbox.tasks cannot be used: ")
    assert reason in str(caught.value)


def test_a_service_beside_a_package_that_cannot_be_used_does_not_start(tmp_path: Path) -> None:
    install(tmp_path, {"odd": "nowhere:ODD"})
    environment = os.environ | {"PYTHONPATH": path_of(tmp_path)}
    command = [sys.executable, "-c", "import service.spec"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "the entry point odd = nowhere:ODD of trainbox.tasks cannot be used: " in done.stderr

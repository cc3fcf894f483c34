"""A model that another package brings: the one of the example, found as an installed package's would be."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from boxes import finish, submit, train, values
from conftest import Until
from test_cli import serving

EXAMPLE = Path(__file__).parent.parent / "examples/residual_mlp"
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
    """Speaks for the admin of a service beside which the example is installed."""
    folder = tmp_path_factory.mktemp("extended")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(folder / "site", project["entry-points"]["trainbox.tasks"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path_of(folder / "site", EXAMPLE))
        with serving(folder / "home") as box:
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
    assert [told in task["models"] for task in listed["data"]] == [True, True, False]
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
    job = submit(client, long())
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


def test_the_example_job_is_accepted(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", params={"dry_run": True}, json=json.loads((EXAMPLE / "job.json").read_text()))
    assert answer.status_code == 200, answer.text


def test_a_declaration_needs_no_torch(tmp_path: Path) -> None:
    program = "import sys, residual_mlp, service.raw_spec; assert 'torch' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": path_of(EXAMPLE)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nowhere:EXTENSION", "No module named 'nowhere'"),
        ("json:dumps", "it is no service.extensions.Extension"),
        ("clashing:EXTENSION", "there is a model mlp already"),
        ("nameless:EXTENSION", "the type of its model is no literal with a default"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(tmp_path: Path, value: str, reason: str) -> None:
    install(tmp_path, {"odd": value})
    head = "from typing import Literal\nfrom service.extensions import Extension, FurtherModel\n"
    tail = "EXTENSION = Extension(Odd, ('regression',), ('table',), 'odd:build')\n"
    for name, field in (("clashing", 'Literal["mlp"] = "mlp"'), ("nameless", 'str = "odd"')):
        (tmp_path / f"{name}.py").write_text(f"{head}class Odd(FurtherModel):\n    type: {field}\n{tail}")
    environment = os.environ | {"PYTHONPATH": path_of(tmp_path)}
    command = [sys.executable, "-c", "import service.spec"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"the entry point odd = {value} of trainbox.tasks cannot be used: " in done.stderr
    assert reason in done.stderr

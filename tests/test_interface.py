"""The interface as it is documented and as it is: each route and each field stands in both."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from boxes import digits, train
from fastapi.routing import APIRoute
from pydantic import BaseModel
from questions import begin, end, grid

from service.api.app import ROUTERS
from service.api.checkpoints import CheckpointView
from service.api.events import EventView
from service.api.views.compare import ComparedRun, ComparisonView, GroupView, VerdictView
from service.api.views.datasets import DatasetView
from service.api.views.jobs import Explanation, JobView, Probe
from service.api.views.runs import CurveView, DiagnosisView, FindingView, WholeRun
from service.api.views.studies import StudyJob, StudyView

DOCUMENT = (Path(__file__).parent.parent / "docs/api.md").read_text(encoding="utf-8")
EVERY_ROUTE = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
ROUTES = [route for route in EVERY_ROUTE if route.include_in_schema]
METHOD_AND_PATH = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`?]*)[^`]*`(?:, `(/[a-z]+)`)?")


def without_names(path: str) -> str:
    return re.sub(r"{[^}]*}", "{}", path)


def test_every_route_stands_in_the_documentation_and_the_other_way_round() -> None:
    documented = set()
    for method, path, further in METHOD_AND_PATH.findall(DOCUMENT):
        documented |= {(method, path)} | ({(method, path.rpartition("/")[0] + further)} if further else set())
    known = {(method, without_names(route.path)) for route in ROUTES for method in route.methods or ()}
    assert {(method, without_names(path)) for method, path in documented} == known


def written(marker: str) -> set[str]:
    """The fields of the object that the documentation writes behind a marker, without those of objects within it."""
    parts, depth = [""], 0
    for char in DOCUMENT[DOCUMENT.index("{", DOCUMENT.index(marker) + len(marker)) :]:
        depth += (char in "{[") - (char in "}]")
        if depth == 0:
            break
        if depth == 1 and char == ",":
            parts.append("")
        elif depth == 1:
            parts[-1] += char
    return {re.findall(r"\w+", part)[0] for part in parts}


@pytest.mark.parametrize(
    ("marker", "model"),
    [
        ("\nA job: ", JobView),
        ("`GET /v1/jobs/{id}/events`", EventView),
        ("`GET /v1/jobs/{id}/explain`", Explanation),
        ("`GET /v1/jobs/{id}/checkpoints`", CheckpointView),
        ("answers `probe: ", Probe),
        ("`GET /v1/runs/{id}` |", WholeRun),
        ("\nA curve: ", CurveView),
        ("### Diagnosis", DiagnosisView),
        ("### Diagnosis\n\n`{run_id, verdict, findings: ", FindingView),
        ("group_by=PARAM` makes", ComparisonView),
        ("differing_parameters, runs: ", ComparedRun),
        ("groups: ", GroupView),
        ("verdicts: ", VerdictView),
        ("\nA study: ", StudyView),
        ("spec, jobs: ", StudyJob),
        ("\nA data set: ", DatasetView),
    ],
)
def test_answers_are_documented_with_the_fields_that_they_have(marker: str, model: type[BaseModel]) -> None:
    assert written(marker) == {field.alias or name for name, field in model.model_fields.items()}


def test_every_look_is_answered_in_the_form_that_its_description_has(admin: httpx.Client) -> None:
    job = train(admin, digits(max_steps=2, epochs=None))
    study = end(admin, begin(admin, grid(base=digits(max_steps=1, epochs=None))))
    places = dict.fromkeys(("job_id", "run_id"), job["id"])
    places |= {"study_id": study["id"], "reference": "digits", "name": "default"}
    queries = {"/v1/compare": {"runs": job["id"], "metric": "val_loss"}}
    queries["/v1/runs/{run_id}/curves"] = {"metric": "train_loss"}
    looked_at = []
    for route in ROUTES:
        model: Any = route.responses.get(200, {}).get("model")
        if route.methods == {"GET"} and model is not None:
            answer = admin.get(route.path.format(**places), params=queries.get(route.path, {}))
            assert answer.status_code == 200, route.path
            model.model_validate_json(answer.content)
            looked_at.append(route.path)
    assert len(looked_at) >= 20, looked_at


def test_every_metric_of_the_service_is_told_to_whoever_runs_it(admin: httpx.Client) -> None:
    document = (Path(__file__).parent.parent / "docs/operations.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^# TYPE (trainbox_\w+)", admin.get("/metrics").text, re.MULTILINE))
    told = set(re.findall(r"`(trainbox_\w+)(?:{[\w, ]+})?`", document))
    assert told == {name for name in known if not name.endswith("_created")}

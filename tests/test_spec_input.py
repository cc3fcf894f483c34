"""What people send as a spec, and worse: every wrong value is refused by the name of its field."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from boxes import digits
from pydantic import BaseModel

from service.spec import Checkpoints, Hyperparameters, JobSpec, Limits, MlpModel, Resources, Validation

PARTS: dict[str, type[BaseModel]] = {
    "hyperparameters": Hyperparameters,
    "validation": Validation,
    "checkpoints": Checkpoints,
    "resources": Resources,
    "limits": Limits,
    "model": MlpModel,
}


def numbers() -> Iterator[tuple[str, bool, bool]]:
    """(dotted name, takes whole numbers only, may be null) of every numeric field of a spec."""
    for part, model in PARTS.items():
        for name, schema in model.model_json_schema()["properties"].items():
            branches = schema.get("anyOf", [schema])
            types = [branch.get("type") for branch in branches]
            if "number" in types or "integer" in types:
                yield f"{part}.{name}", "number" not in types, "null" in types
    yield "priority", True, False


NUMBERS = list(numbers())


def with_literal(param: str, literal: str) -> str:
    """A spec as text, with this literal as the value of the field."""
    spec: dict[str, Any] = {"task": "classification", "dataset": "digits"}
    here = spec
    *path, last = param.split(".")
    for name in path:
        here = here.setdefault(name, {"type": "mlp"} if name == "model" else {})
    here[last] = "@"
    return json.dumps(spec).replace('"@"', literal)


def refused(admin: Any, body: str) -> dict[str, str]:
    """The problems by field of a spec that must be refused."""
    answer = admin.post("/v1/jobs?dry_run=true", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return {problem["param"]: problem["message"] for problem in answer.json()["errors"]}


def test_the_fields_are_found() -> None:
    assert len(NUMBERS) >= 15
    assert ("hyperparameters.learning_rate", False, False) in NUMBERS


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("param", [param for param, _, _ in NUMBERS])
def test_what_is_not_finite_is_refused_alone_and_beside_another_error(
    admin: httpx.Client, param: str, literal: str
) -> None:
    body = with_literal(param, literal)
    assert set(refused(admin, body)) == {param}
    assert set(refused(admin, body.replace('"digits"', '"nope"'))) == {param, "dataset"}


@pytest.mark.parametrize("literal", ['"nan"', "true", '"5"', "[]", "{}", "9223372036854775808", "1" + "0" * 5000])
@pytest.mark.parametrize("param", [param for param, _, _ in NUMBERS])
def test_what_is_no_number_is_refused(admin: httpx.Client, param: str, literal: str) -> None:
    assert set(refused(admin, with_literal(param, literal))) == {param}


@pytest.mark.parametrize("param", [param for param, whole, _ in NUMBERS if whole])
def test_a_whole_number_is_not_taken_from_a_fraction(admin: httpx.Client, param: str) -> None:
    assert set(refused(admin, with_literal(param, "5.0"))) == {param}


@pytest.mark.parametrize("param", [param for param, _, nullable in NUMBERS if not nullable])
def test_null_is_no_number(admin: httpx.Client, param: str) -> None:
    assert set(refused(admin, with_literal(param, "null"))) == {param}


@pytest.mark.parametrize(
    ("param", "literal", "bound"),
    [
        ("hyperparameters.epochs", "0", "1"),
        ("hyperparameters.epochs", "-1", "1"),
        ("hyperparameters.epochs", "1000000000000", "1000000"),
        ("hyperparameters.batch_size", "0", "1"),
        ("hyperparameters.learning_rate", "0", "0"),
        ("hyperparameters.learning_rate", "-0.1", "0"),
        ("hyperparameters.momentum", "1.0", "1"),
        ("validation.fraction", "1.0", "0.9"),
        ("priority", "1001", "1000"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_the_bound(
    admin: httpx.Client, param: str, literal: str, bound: str
) -> None:
    assert bound in refused(admin, with_literal(param, literal))[param]


@pytest.mark.parametrize("param", ["learning_rate", "hyperparameters.learning_rat", "model.hidden_size", "extra"])
def test_an_unknown_field_is_named(admin: httpx.Client, param: str) -> None:
    assert set(refused(admin, with_literal(param, "1"))) == {param}


def test_the_value_that_was_refused_is_never_repeated(admin: httpx.Client) -> None:
    secret = "correct-horse-battery"
    for param in ("task", "dataset", "hyperparameters.optimizer", "model.type", "project", "hyperparameters.epochs"):
        answer = admin.post(
            "/v1/jobs", content=with_literal(param, f'"{secret} @"'), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422
        assert secret not in answer.text


def test_large_whole_numbers_are_kept_exactly(admin: httpx.Client) -> None:
    answer = admin.post("/v1/jobs?dry_run=true", json=digits(seed=2**53 + 1))
    assert answer.json()["spec"]["hyperparameters"]["seed"] == 2**53 + 1


def test_every_default_is_filled_in(admin: httpx.Client) -> None:
    spec = admin.post("/v1/jobs?dry_run=true", json={"task": "regression", "dataset": "diabetes"}).json()["spec"]
    assert set(spec) == set(JobSpec.model_fields)
    assert spec["hyperparameters"]["loss"] == "mse"
    assert spec["hyperparameters"]["epochs"] == 10
    assert spec["name"] == "diabetes mlp"


def test_the_spec_in_the_documentation_is_a_whole_one(admin: httpx.Client) -> None:
    text = (Path(__file__).parent.parent / "docs/api.md").read_text(encoding="utf-8")
    documented = json.loads(text.partition("### The spec")[2].partition("```json")[2].partition("```")[0])
    assert admin.post("/v1/jobs?dry_run=true", json=documented).json()["spec"] == documented


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"{", b"\xff\xfe{}", "{}".encode("utf-16"), b"\xef\xbb\xbf{}"]
)
def test_a_body_that_is_no_json_object_is_refused(admin: httpx.Client, body: bytes) -> None:
    answer = admin.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 415, 422)
    assert answer.headers["content-type"] == "application/problem+json"

"""Advice on specs: each warning where it is meant, and none where nothing is unusual."""

import re
from pathlib import Path
from typing import Any

import pytest

from service import advice, meaning, plan
from service.spec import JobSpec, filled

ROWS = 2000
DIGITS = {"task": "classification", "dataset": "digits"}
MLP_BATCH = {"type": "mlp", "normalization": "batch"}


def spec(**more: Any) -> JobSpec:
    return filled(JobSpec.model_validate(DIGITS | more))


def advised(rows: int = ROWS, **more: Any) -> dict[str, dict[str, str]]:
    asked = spec(**more)
    return {each["code"]: each for each in advice.warnings(asked, plan.make(asked, rows))}


CASES: list[tuple[str, dict[str, Any]]] = [
    ("learning_rate_unusual", {"hyperparameters": {"learning_rate": 0.1}}),
    ("learning_rate_unusual", {"hyperparameters": {"learning_rate": 0.0001}}),
    ("batch_larger_than_dataset", {"hyperparameters": {"batch_size": 1601, "epochs": 100}}),
    ("last_batch_tiny", {"hyperparameters": {"batch_size": 533, "epochs": 100}}),
    ("warmup_longer_than_run", {"hyperparameters": {"warmup_steps": 250}}),
    ("accumulation_larger_than_batch", {"hyperparameters": {"gradient_accumulation": 65}}),
    ("precision_slow", {"hyperparameters": {"precision": "float16"}}),
    ("validation_too_small", {"validation": {"fraction": 0.02}}),
    ("few_steps", {"hyperparameters": {"epochs": 3}}),
    ("hyperparameter_unused", {"hyperparameters": {"momentum": 0.5}}),
    ("normalised_per_process", {"model": MLP_BATCH, "resources": {"processes": 2}}),
    ("batch_statistics_by_part", {"model": MLP_BATCH, "hyperparameters": {"gradient_accumulation": 2}}),
]


@pytest.mark.parametrize(("code", "more"), CASES)
def test_what_may_be_meant_otherwise_is_said_by_itself(code: str, more: dict[str, Any]) -> None:
    [(told, warning)] = advised(**more).items()
    assert told == code
    section, _, name = warning["param"].partition(".")
    assert name in type(getattr(spec(), section)).model_fields


def test_nothing_is_said_of_a_usual_spec() -> None:
    assert advised() == {}


def test_every_warning_stands_in_the_documentation_and_the_other_way_round() -> None:
    text = (Path(__file__).parent.parent / "docs/api.md").read_text(encoding="utf-8")
    [paragraph] = re.findall(r"^`warnings` are advice.*?\n\n", text, re.MULTILINE | re.DOTALL)
    documented = set(re.findall(r"`([a-z_]+)`", paragraph)) - {"warnings"}
    assert documented == {code for code, _ in CASES}


def test_a_small_validation_split_is_spoken_of_in_the_metrics_that_it_has() -> None:
    few = advised(rows=100)["validation_too_small"]["message"]
    assert few == "with 20 validation samples, one of them moves val_accuracy by 5.0 points"
    numbers = advised(rows=100, task="regression", dataset="diabetes")["validation_too_small"]["message"]
    assert numbers == "with 20 validation samples, a single odd one may decide val_loss"
    none = advised(validation={"fraction": 0})["validation_too_small"]["message"]
    assert none == "nothing is held back, so nothing tells learning from memorising"


def test_early_stopping_that_comes_goes_or_changes_is_told_without_what_was_not_there() -> None:
    without, three, nine = (spec(early_stopping=each) for each in (None, {"patience": 3}, {"patience": 9}))

    def told(before: JobSpec, after: JobSpec) -> dict[str, str]:
        changes, _ = meaning.of(before, plan.make(before, ROWS), after, plan.make(after, ROWS))
        return {each["param"]: each["meaning"] for each in changes}

    patience = "early_stopping.patience"
    assert told(without, three)[patience] == "training ends after 3 validations without an improvement"
    assert told(three, nine) == {patience: "training ends after 9 validations without an improvement instead of 3"}
    assert told(nine, without)[patience] == "training takes all its steps, whatever the validations say"

"""The diagnosis: right on really trained curves, at any length, while a job runs, and as a gate that acts."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from boxes import digits, finish, submit, train
from conftest import Until
from hypothesis import given, settings as hypothesis_settings, strategies as st

from benchmarks import labelled
from benchmarks.curves import prepared
from benchmarks.diagnosis import called_healthy, case_of, share_right
from benchmarks.labelled import Example
from service import examination, gates
from service.curves import Batch, Curve, append_all
from service.curves.rollups import Floats
from service.curves.stored import Points
from service.diagnosis import Case, Code, Severity, Sibling, Signal, diagnose
from service.spec import Gate


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return labelled.load()


def signal(values: Floats | list[float], metric: str = "train_loss", every: int = 1) -> Signal:
    array = np.asarray(values, np.float64)
    steps = np.arange(1, len(array) + 1) * every
    return Signal(metric, Curve.of_points(Points(np.arange(len(array)), steps, array, steps / 1000)))


def falling(count: int = 200, end: float = 0.1, pace: float = 5) -> Floats:
    return np.asarray(end + (2.3 - end) * np.exp(-pace * np.arange(count) / count), np.float64)


def rising_again() -> Floats:
    return np.concatenate([np.linspace(2.3, 1.0, 50), np.linspace(1.0, 2.0, 50)])


def test_nine_of_ten_labelled_curves_are_diagnosed_rightly(examples: list[Example]) -> None:
    held_out = [each for each in examples if each.family.held_out]
    assert len(examples) >= 120
    assert len(held_out) >= 60
    assert share_right(examples) >= 0.9
    assert share_right(held_out) >= 0.9


def test_a_run_that_diverged_is_never_called_healthy(examples: list[Example]) -> None:
    assert len([each for each in examples if each.accepted[0] == "diverged"]) >= 20
    assert called_healthy(examples) == []


def test_a_curve_read_in_few_points_gets_the_diagnosis_of_the_whole(examples: list[Example], tmp_path: Path) -> None:
    database = prepared(tmp_path / "curves.db")
    chosen = examples[3::24]
    agreed = 0
    for number, example in enumerate(chosen, start=1):
        case = case_of(example)
        signals = [each for each in (case.train, case.validation, *case.scores) if each is not None]
        batches = [Batch(each.metric, 0, each.curve.step, each.curve.value, each.curve.time) for each in signals]
        with database.write() as session:
            append_all(session, number, batches)
        with database.read() as session:
            patched = pytest.MonkeyPatch()
            patched.setattr(examination, "POINTS", 100)
            found = examination.of_curves(session, number, case.parameters, running=False)
            patched.undo()
        agreed += found.verdict is diagnose(case).verdict
    database.close()
    assert agreed >= len(chosen) - 1


def test_a_finding_names_the_steps_the_numbers_and_the_rule() -> None:
    losses = falling()
    losses[150] = np.nan
    [finding] = diagnose(Case(signal(losses), parameters={"hyperparameters.learning_rate": 0.1})).findings
    assert (finding.code, finding.severity, finding.from_step) == (Code.DIVERGED, Severity.ERROR, 151)
    assert finding.evidence["value"] == "NaN"
    assert "Bengio" in finding.evidence["rule"]
    assert finding.suggestion == "try hyperparameters.learning_rate 0.01"


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (Case(signal(falling())), Code.HEALTHY),
        (Case(signal(falling(), "loss")), Code.HEALTHY),
        (Case(signal([2.3] * 10)), Code.TOO_SHORT_TO_TELL),
        (Case(None), Code.TOO_SHORT_TO_TELL),
        (Case(signal(np.linspace(2.3, 4.0, 100))), Code.DIVERGED),
        (Case(signal(np.linspace(2.3, 2.29, 100))), Code.LEARNING_RATE_TOO_LOW),
        (Case(signal(np.linspace(2.3, 1.5, 100))), Code.LEARNING_RATE_TOO_LOW),
        (Case(signal(rising_again())), Code.LEARNING_RATE_TOO_HIGH),
        (Case(signal(falling(end=1.7))), Code.UNDERFITTING),
        (Case(signal(falling(1000, end=0.4, pace=30))), Code.PLATEAUED),
    ],
)  # fmt: skip
def test_a_clear_curve_has_a_clear_verdict(case: Case, verdict: Code) -> None:
    assert diagnose(case).verdict is verdict


def test_a_validation_loss_that_turns_up_is_overfitting_unless_what_counts_still_improves() -> None:
    turned = signal(np.concatenate([np.linspace(2, 0.5, 10), np.linspace(0.5, 1.2, 10)]), "val_loss", 10)
    flat = signal(np.concatenate([np.linspace(0.2, 0.8, 10), np.full(10, 0.8)]), "val_accuracy", 10)
    better = signal(np.linspace(0.2, 0.95, 20), "val_recall", 10)
    overfitting = diagnose(Case(signal(falling(end=0.001)), turned, [flat])).findings[0]
    assert overfitting.code is Code.OVERFITTING
    assert overfitting.from_step is not None
    assert 80 <= overfitting.from_step <= 120
    disagreeing = diagnose(Case(signal(falling(end=0.001)), turned, [flat, better])).findings[0]
    assert disagreeing.code is Code.LOSS_AND_METRIC_DISAGREE
    assert disagreeing.evidence["improving_metric"] == "val_recall"


def test_a_burst_near_the_end_of_training_hides_no_overfitting() -> None:
    training = falling(1000, end=1e-5, pace=8)
    training[950:956] = 2.0
    findings = diagnose(Case(signal(training), signal(rising_again(), "val_loss", every=10))).findings
    [finding] = [each for each in findings if each.code is Code.OVERFITTING]
    assert finding.evidence["training_loss_since"] < finding.evidence["training_loss_at_lowest"]


def test_a_sibling_that_learned_far_more_says_which_way_the_rate_is_wrong() -> None:
    facts: dict[str, Any] = {"parameters": {"hyperparameters.learning_rate": 0.01}}
    larger = diagnose(Case(signal(falling(end=1.7)), siblings=[Sibling("a-sibling", 0.1, 0.01)], **facts))
    assert larger.verdict is Code.LEARNING_RATE_TOO_LOW
    assert larger.findings[0].suggestion == "try hyperparameters.learning_rate 0.1"
    assert larger.findings[0].evidence["sibling"] == "a-sibling"
    smaller = diagnose(Case(signal(falling(end=1.7)), siblings=[Sibling("a-sibling", 0.002, 0.01)], **facts))
    assert smaller.verdict is Code.LEARNING_RATE_TOO_HIGH
    assert smaller.findings[0].suggestion == "try hyperparameters.learning_rate 0.002"


@pytest.mark.parametrize("rate", [0.001, 0.1])
def test_a_lucky_batch_of_a_sibling_is_held_against_the_luckiest_of_this_run(rate: float) -> None:
    losses = falling(end=1.3)
    losses[30::37] = 0.02
    case = Case(
        signal(losses),
        parameters={"hyperparameters.learning_rate": 0.01},
        siblings=[Sibling("a-sibling", rate, 0.02)],
    )
    assert diagnose(case).verdict is Code.UNDERFITTING


def test_no_rate_is_suggested_that_a_sibling_did_not_train_with() -> None:
    facts: dict[str, Any] = {"parameters": {"hyperparameters.learning_rate": 10.0}}
    climbing = signal(np.linspace(2.3, 4.0, 100))
    alone = diagnose(Case(climbing, siblings=[Sibling("a-sibling", 1.0, 2.2, learned=False)], **facts))
    assert alone.findings[0].suggestion == "try hyperparameters.learning_rate 0.1"
    between = [Sibling("a-sibling", 0.01, 0.4), Sibling("another", 1.0, 2.2, learned=False)]
    told = diagnose(Case(climbing, siblings=between, **facts))
    assert told.findings[0].suggestion == "try hyperparameters.learning_rate 0.01"
    slow: dict[str, Any] = {"parameters": {"hyperparameters.learning_rate": 0.001}}
    flat = signal(np.linspace(2.3, 2.29, 100))
    near = diagnose(Case(flat, siblings=[Sibling("a-sibling", 0.004, 2.2, learned=False)], **slow))
    assert near.verdict is Code.LEARNING_RATE_TOO_LOW
    assert near.findings[0].suggestion == "try hyperparameters.learning_rate 0.002"


numbers = st.floats(width=64) | st.sampled_from([0.0, 1.0, -1.0, 5e-324, 1.7e308, float("nan"), float("inf")])


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    st.lists(numbers, max_size=60),
    st.lists(numbers, max_size=12),
    st.lists(numbers, max_size=12),
    st.floats(5e-324, 1e308),
)
def test_whatever_the_values_there_is_a_diagnosis(
    losses: list[float], validations: list[float], scores: list[float], rate: float
) -> None:
    parameters = {"hyperparameters.learning_rate": rate, "hyperparameters.weight_decay": rate}
    scored = [signal(scores, "val_accuracy", 5)] if scores else []
    with np.errstate(all="ignore"):
        found = diagnose(
            Case(
                signal(losses) if losses else None,
                signal(validations, "val_loss", 5) if validations else None,
                scored,
                parameters=parameters,
            )
        )
    assert found.findings
    if not all(np.isfinite(losses)):
        assert found.verdict is Code.DIVERGED


def test_the_verdict_of_a_trained_job_comes_with_its_evidence(admin: httpx.Client) -> None:
    good = train(admin, digits(learning_rate=0.003, epochs=10))
    answer = admin.get(f"/v1/runs/{good['id']}/diagnosis").json()
    assert answer["verdict"] in ("healthy", "plateaued")
    broken = train(admin, digits(learning_rate=100.0, optimizer="sgd", epochs=3))
    answer = admin.get(f"/v1/runs/{broken['id']}/diagnosis").json()
    assert answer["verdict"] == "diverged" == answer["findings"][0]["code"]
    assert {"code", "severity", "from_step", "to_step", "evidence", "explanation", "suggestion"} == set(
        answer["findings"][0]
    )
    text = admin.get(f"/v1/runs/{broken['id']}/diagnosis?format=text")
    assert "diverged (error" in text.text
    for width in (20, 60):
        narrow = admin.get(f"/v1/runs/{broken['id']}/diagnosis", params={"format": "text", "width": width}).text
        assert max(map(len, narrow.splitlines())) <= width
        assert "".join(narrow.split()) == "".join(text.text.split())
    for form in ("csv", "ndjson"):
        assert "diverged" in admin.get(f"/v1/runs/{broken['id']}/diagnosis", params={"format": form}).text
    assert admin.get("/v1/runs/00000000-0000000/diagnosis").status_code == 404


def test_a_gate_cancels_a_job_that_diverges_and_keeps_the_evidence(admin: httpx.Client) -> None:
    spec = digits(learning_rate=3.0, optimizer="sgd", epochs=None, max_steps=500_000)
    job = submit(admin, spec | {"gate": {"after_steps": 60, "on": "too_high", "do": "cancel"}})
    ended = finish(admin, job)
    assert ended["status"] == "cancelled"
    events = admin.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    [gate] = [event for event in events if event["code"] == "gate_cancelled"]
    assert gate["data"]["finding"]["code"] in ("diverged", "learning_rate_too_high")
    assert "rule" in gate["data"]["finding"]["evidence"]


def test_a_gate_that_warns_lets_the_job_go_on_and_speaks_once(admin: httpx.Client) -> None:
    spec = digits(learning_rate=3.0, optimizer="sgd", epochs=None, max_steps=1500)
    job = finish(admin, submit(admin, spec | {"gate": {"on": "too_high"}, "on_non_finite": "continue"}))
    assert job["status"] == "succeeded"
    assert job["spec"]["gate"] == {"after_steps": 100, "on": "too_high", "do": "warn"}
    events = [event["code"] for event in admin.get(f"/v1/jobs/{job['id']}/events").json()["data"]]
    assert events.count("gate_warned") == 1


def test_a_script_may_call_anything_a_learning_rate(admin: httpx.Client) -> None:
    runs = {}
    for rate in (0.01, 0.001, "warm-up to 0.1", None, [0.1, 0.01], True):
        about = {"hyperparameters": {"learning_rate": rate}, "kind": "oddly called"}
        run = admin.post("/v1/runs", json={"name": "a script", "parameters": about}).json()["id"]
        losses = falling(100, pace=1 if rate == 0.001 else 5).tolist()
        points = [{"metric": "train_loss", "step": step, "value": loss} for step, loss in enumerate(losses)]
        assert admin.post(f"/v1/runs/{run}/points", json={"points": points}).status_code == 200
        assert admin.post(f"/v1/runs/{run}/finish", json={"status": "succeeded"}).status_code == 200
        runs[str(rate)] = run
    answers = {rate: admin.get(f"/v1/runs/{run}/diagnosis") for rate, run in runs.items()}
    assert [answer.status_code for answer in answers.values()] == [200] * len(runs)
    slow = answers["0.001"].json()
    assert slow["verdict"] == "learning_rate_too_low"
    assert slow["findings"][0]["suggestion"] == "try hyperparameters.learning_rate 0.01"


def test_a_running_job_is_diagnosed_as_far_as_it_has_come(admin: httpx.Client, until: Until) -> None:
    job = submit(admin, digits(epochs=None, max_steps=1_000_000))
    until(lambda: admin.get(f"/v1/runs/{job['id']}").json()["metrics"].get("train_loss", {}).get("count", 0) > 50)
    answer = admin.get(f"/v1/runs/{job['id']}/diagnosis").json()
    admin.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer["findings"]
    finish(admin, job)


def test_a_gate_looks_at_doubling_steps() -> None:
    gate = Gate(after_steps=100)
    assert [gates.next_look(gate, step) for step in (0, 99, 100, 150, 200, 1000)] == [100, 100, 200, 200, 400, 1600]


@pytest.mark.parametrize(
    ("gate", "param"),
    [
        ({"after_steps": 0}, "gate.after_steps"),
        ({"on": "fire"}, "gate.on"),
        ({"do": "panic"}, "gate.do"),
        ({"then": 1}, "gate.then"),
    ],
)
def test_a_wrong_gate_is_named(admin: httpx.Client, gate: dict[str, Any], param: str) -> None:
    answer = admin.post("/v1/jobs", json=digits() | {"gate": gate})
    assert answer.status_code == 422
    assert [each["param"] for each in answer.json()["errors"]] == [param]

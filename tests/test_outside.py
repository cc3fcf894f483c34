"""Runs of scripts: begun, filled exactly once whatever is sent again, ended, and seen like any other run."""

import importlib.util
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import Box, Serve, Until
from hypothesis import given, settings as hypothesis_settings, strategies as st
from sqlalchemy.orm import Session

from benchmarks.curves import RECORDING, prepared
from service import curves, outside, sent
from service.api import strict_json
from service.api.strict_route import validated
from service.api.views.runs import WholeRun
from service.curves import merging, rollups, stored
from service.curves.merging import Logged
from service.database import Database
from service.errors import InvalidInput
from service.sent import NewPoints
from service.settings import Settings
from service.states import Scope

ROOT = Path(__file__).parent.parent

Point = dict[str, Any]


def begin(client: httpx.Client, **facts: Any) -> str:
    answer = client.post("/v1/runs", json={"name": "a script"} | facts)
    assert answer.status_code == 201, answer.text
    run_id: str = answer.json()["id"]
    assert answer.headers["Location"] == f"/v1/runs/{run_id}"
    return run_id


def point(step: int, value: Any, metric: str = "loss", **facts: Any) -> Point:
    return {"metric": metric, "step": step, "value": value} | facts


def send(client: httpx.Client, run_id: str, *points: Point) -> httpx.Response:
    return client.post(f"/v1/runs/{run_id}/points", json={"points": points})


def curve(client: httpx.Client, run_id: str, metric: str = "loss", **query: Any) -> Any:
    answer = client.get(f"/v1/runs/{run_id}/curves", params={"metric": metric, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()["points"]


def test_a_script_begins_fills_and_ends_a_run_that_looks_like_any_other(shared: httpx.Client) -> None:
    run_id = begin(
        shared, project="scripts", parameters={"optimizer": {"lr": 0.1}, "depth": 3}, tags={"kind": "test"},
        batch_size=32, train_samples=100,
    )  # fmt: skip
    run = shared.get(f"/v1/runs/{run_id}").json()
    assert (run["status"], run["job_id"], run["finished_at"]) == ("running", None, None)
    assert run["parameters"] == {"optimizer.lr": 0.1, "depth": 3}
    answer = send(shared, run_id, point(1, 2.5), point(2, 1.5), point(4, 1), point(4, 0.9, "val_accuracy"))
    assert (answer.status_code, answer.json()) == (200, {"accepted": 4})
    assert curve(shared, run_id)["y"] == [2.5, 1.5, 1]
    assert curve(shared, run_id, x="epoch")["x"] == [0.25, 0.5, 1]
    assert curve(shared, run_id, x="samples")["x"] == [32, 64, 100]
    assert curve(shared, run_id, x="gpu_seconds")["x"] == [0, 0, 0]
    ended = shared.post(f"/v1/runs/{run_id}/finish", json={"status": "succeeded"})
    assert ended.status_code == 200
    run = WholeRun.model_validate_json(ended.content)
    assert run.status == "succeeded"
    assert run.finished_at is not None
    assert run.metrics["loss"].direction == "min"
    assert run.metrics["val_accuracy"].best == 0.9
    listed = shared.get("/v1/runs?project=scripts&status=succeeded&param.optimizer.lr=0.1").json()["data"]
    assert [each["id"] for each in listed] == [run_id]
    assert shared.get(f"/v1/jobs/{run_id}").status_code == 404
    assert run_id not in [job["id"] for job in shared.get("/v1/jobs?limit=200").json()["data"]]
    compared = shared.get(f"/v1/compare?runs={run_id}&metric=loss&target=1.5").json()
    assert compared["runs"][0]["summary"]["to_target"] == 2
    assert shared.get(f"/v1/runs/{run_id}/diagnosis").json()["verdict"] == "too_short_to_tell"


def test_of_more_runs_than_can_be_compared_the_newest_are_and_it_is_said(shared: httpx.Client) -> None:
    ids = [begin(shared, tags={"set": "many"}) for _ in range(51)]
    found = shared.get("/v1/compare?tag.set=many&metric=loss").json()
    assert [run["run_id"] for run in found["runs"]] == ids[:0:-1]
    assert "only_the_newest" in [each["code"] for each in found["warnings"]]
    assert "more than 50 runs match" in shared.get("/v1/compare?tag.set=many&metric=loss&format=text").text


def test_a_parameter_is_found_by_its_number_to_the_last_digit(shared: httpx.Client) -> None:
    run_id = begin(shared, parameters={"seed": 2**53 + 1, "rate": 1e-3})
    for query, found in (
        ({"param.seed": str(2**53 + 1)}, True),
        ({"param.seed": str(2**53)}, False),
        ({"param.seed": "9" * 40}, False),
        ({"param.rate": "0.0010"}, True),
    ):
        listed = shared.get("/v1/runs", params={"param.seed": str(2**53 + 1)} | query).json()["data"]
        assert [run["id"] for run in listed] == [run_id] * found, query


def test_points_that_are_sent_again_change_nothing(shared: httpx.Client) -> None:
    run_id = begin(shared)
    points = [point(step, step / 7) for step in range(1, 51)]
    for part in (points[:30], points[:30], points[20:], points):
        assert send(shared, run_id, *part).status_code == 200
    found = curve(shared, run_id)
    assert found["step"] == list(range(1, 51))
    assert found["y"] == [step / 7 for step in range(1, 51)]


def test_a_curve_is_in_order_of_its_steps_and_of_two_values_the_last_one_stays(shared: httpx.Client) -> None:
    run_id = begin(shared)
    send(shared, run_id, point(10, 1.0), point(2, 2.0), point(10, 3.0))
    send(shared, run_id, point(5, 4.0), point(2, 5.0), point(2**53, 6.0))
    found = curve(shared, run_id)
    assert found["step"] == [2, 5, 10, 2**53]
    assert found["y"] == [5, 4, 3, 6]


def test_values_that_are_not_finite_come_as_words_and_go_as_words(shared: httpx.Client) -> None:
    run_id = begin(shared)
    send(shared, run_id, point(0, "NaN"), point(1, "Infinity"), point(2, "-Infinity"), point(3, -1e300))
    assert curve(shared, run_id)["y"] == ["NaN", "Infinity", "-Infinity", -1e300]
    again = send(shared, run_id, point(0, "NaN"), point(1, "Infinity"))
    assert again.status_code == 200
    odd = "=loss, of (it)"
    send(shared, run_id, point(0, "NaN", odd), point(1, 0.1, odd))
    path, both = f"/v1/runs/{run_id}/curves", {"metric": ["loss", odd], "points": "all"}
    rows = shared.get(path, params={**both, "format": "csv"}).text.splitlines()
    assert rows[1:3] == ["loss,0,0,NaN,NaN,NaN", "loss,1,1,Infinity,Infinity,Infinity"]
    assert rows[-2:] == [f'"\'{odd}",0,0,NaN,NaN,NaN', f'"\'{odd}",1,1,0.1,0.1,0.1']
    lines = shared.get(path, params={**both, "format": "ndjson"}).text.splitlines()
    assert [json.loads(line)["y"] for line in lines] == ["NaN", "Infinity", "-Infinity", -1e300, "NaN", 0.1]
    assert json.loads(lines[-1]) == {"metric": odd, "step": 1, "x": 1, "y": 0.1}
    assert shared.get(f"/v1/runs/{run_id}").json()["metrics"]["loss"]["count"] == 4


def test_times_are_those_that_the_script_tells(shared: httpx.Client) -> None:
    run_id = begin(shared)
    moments = ["2026-01-01T10:00:00Z", "2026-01-01T12:00:02.5+02:00"]
    send(shared, run_id, *(point(step, 1.0, at=at) for step, at in enumerate(moments)))
    assert curve(shared, run_id, x="time")["x"] == [0, 2.5]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        (point(2**63, 1.0), "points.0.step"),
        (point(-1, 1.0), "points.0.step"),
        (point(1.5, 1.0), "points.0.step"),  # type: ignore[arg-type]
        (point(True, 1.0), "points.0.step"),
        (point(1, "nan"), "points.0.value"),
        (point(1, None), "points.0.value"),
        (point(1, True), "points.0.value"),
        (point(1, 1.0, ""), "points.0.metric"),
        (point(1, 1.0, "x" * 129), "points.0.metric"),
        (point(1, 1.0, "<b>"), "points.0.metric"),
        (point(1, 1.0, at="yesterday"), "points.0.at"),
        (point(1, 1.0, at="2026-01-01T10:00:00"), "points.0.at"),
        (point(1, 1.0, other=1), "points.0.other"),
        ({"metric": "loss", "step": 1}, "points.0.value"),
    ],
)
def test_a_wrong_point_is_named_and_nothing_of_its_request_is_kept(
    shared: httpx.Client, wrong: Point, param: str
) -> None:
    run_id = begin(shared)
    answer = send(shared, run_id, wrong, point(1, 1.0))
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["param"] == param
    assert shared.get(f"/v1/runs/{run_id}").json()["metrics"] == {}


def test_ten_thousand_points_come_in_one_request_and_not_one_more(shared: httpx.Client) -> None:
    run_id = begin(shared)
    points = [point(step, step + 0.123456789012345, at="2026-01-01T10:00:00.123456Z") for step in range(10_001)]
    assert send(shared, run_id, *points).status_code == 422
    assert send(shared, run_id, *points[:-1]).status_code == 200
    assert shared.get(f"/v1/runs/{run_id}").json()["metrics"]["loss"]["count"] == 10_000


KEYS = ['"metric"', '"step"', '"value"', '"at"', '"other"', '"st\\u0065p"', '"points"', "step"]
TEXTS = ["1", "0", "-1", "-0", "1.0", "2.5", "-1e300", "1e999", "NaN", "Infinity", "true", "null", "[1]", "{}", "01"]
TEXTS += ["9007199254740993", str(2**63 - 1), str(2**63), str(2**64), "1" * 401, "0." + "1" * 401, "1e30"]
TEXTS += [
    '"NaN"',
    '"-Infinity"',
    '"nan"',
    '"loss"',
    '"a,b: c"',
    '"é"',
    '"x\\"y"',
    '"x\ty"',
    '"x\\ud800"',
    '""',
    '"loss',
]
TEXTS += [
    '"loss',
    '"2026-01-01T10:00:00Z"',
    '"2026-01-01T10:00:00"',
    '"2026-01-01 10:00:00.1234567+02:00"',
    '"1700000000"',
]
GOOD = [('"metric"', '"loss"'), ('"step"', "3"), ('"value"', "0.1")]
MOMENT = ('"at"', '"2026-01-01T12:00:00.5+02:00"')
pairs = st.tuples(st.sampled_from(KEYS), st.sampled_from(TEXTS))
odd_points = st.one_of(
    st.just(GOOD),
    st.just([*GOOD, MOMENT]),
    pairs.map(lambda pair: [*(each for each in GOOD if each[0] != pair[0]), pair]),
    pairs.map(lambda pair: [*GOOD, pair]),
    st.lists(pairs, max_size=4),
)


def written(points: list[list[tuple[str, str]]], around: str) -> bytes:
    parts = ["{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}" for pairs in points]
    return around.replace("*", ", ".join(parts)).encode()


@hypothesis_settings(max_examples=400, deadline=None)
@given(
    st.lists(odd_points, max_size=4),
    st.sampled_from(['{"points": [*]}'] * 6 + ['{"points": [*], "points": []}', '{"points": [*]} x', '{"points": {*}}'])
    | st.sampled_from(["[*]", '\ufeff{"points": [*]}', '{"points": [*], "more": 1}', '{"points":[*,]}', "", "null"]),
)
def test_what_is_read_quickly_is_what_the_strict_reader_reads(points: list[Any], around: str) -> None:
    body = written(points, around)
    quick = sent.quickly(body)
    if quick is None:
        return
    strict = sent.Sent.of(validated(NewPoints, strict_json.parse(body)))
    assert list(quick.metrics) == strict.metrics
    for name in ("steps", "values", "moments"):
        np.testing.assert_array_equal(getattr(quick, name), getattr(strict, name))


def test_what_scripts_send_is_read_quickly() -> None:
    whole = [*GOOD[:2], ('"value"', "2")]
    word = [*GOOD[:2], ('"value"', '"NaN"')]
    later = [*GOOD, ('"at"', "null")]
    quick = sent.quickly(written([GOOD, whole, word, [*GOOD, MOMENT], later], '{"points":[*]}\n'))
    assert quick is not None
    np.testing.assert_array_equal(quick.values, [0.1, 2, np.nan, 0.1, 0.1])
    np.testing.assert_array_equal(quick.moments, [np.nan, np.nan, np.nan, 1767261600.5, np.nan])


def test_everything_wrong_with_points_is_told_at_once(shared: httpx.Client) -> None:
    run_id = begin(shared)
    body = (
        '{"points": [{"metric": "loss", "step": 1, "step": 2, "value": 1.0}, {"metric": "l", "step": 1, "value": NaN},'
        '{"metric": "<b>", "step": 9223372036854775808, "value": true, "x": 1}], "more": 1}'
    )
    path, headers = f"/v1/runs/{run_id}/points", {"Content-Type": "application/json"}
    answer = shared.post(path, content=body, headers=headers)
    assert answer.status_code == 422
    told = {(each["param"], each["code"]) for each in answer.json()["errors"]}
    assert {param for param, _ in told} == {
        "points.0.step", "points.1.value", "points.2.metric", "points.2.step", "points.2.value", "points.2.x", "more",
    }  # fmt: skip
    assert {("points.0.step", "duplicate_key"), ("points.1.value", "not_finite")} <= told
    for body, status in (("", 400), ("{", 400), ("[]", 422), ("{}", 422)):
        assert shared.post(path, content=body, headers=headers).status_code == status


def test_a_run_that_is_over_takes_no_more(shared: httpx.Client) -> None:
    run_id = begin(shared)
    for status, expected in (("failed", 200), ("failed", 200), ("succeeded", 409)):
        assert shared.post(f"/v1/runs/{run_id}/finish", json={"status": status}).status_code == expected
    assert send(shared, run_id, point(1, 1.0)).status_code == 409
    assert shared.get(f"/v1/runs/{run_id}").json()["status"] == "failed"


def test_a_scripts_run_is_deleted_when_it_is_over(shared: httpx.Client) -> None:
    run_id = begin(shared)
    send(shared, run_id, point(1, 1.0))
    refusal = shared.delete(f"/v1/runs/{run_id}")
    assert (refusal.status_code, refusal.json()["code"]) == (409, "not_now")
    shared.post(f"/v1/runs/{run_id}/finish", json={"status": "cancelled"})
    assert shared.delete(f"/v1/runs/{run_id}").status_code == 204
    assert shared.get(f"/v1/runs/{run_id}").status_code == shared.delete(f"/v1/runs/{run_id}").status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "batch_size": 0}, "batch_size"),
        ({"name": "x", "batch_size": 2.5}, "batch_size"),
        ({"name": "x", "parameters": {str(n): n for n in range(257)}}, "parameters"),
        ({"name": "x", "parameters": {"a": "y" * 5000}}, "parameters.a"),
        ({"name": "x", "status": "succeeded"}, "status"),
        ({"name": "x", "project": "a b"}, "project"),
    ],
)
def test_a_wrong_beginning_is_named(shared: httpx.Client, body: Any, param: str) -> None:
    answer = shared.post("/v1/runs", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["param"] == param


def test_a_run_whose_script_is_silent_for_a_day_has_failed(client: httpx.Client, settings: Settings) -> None:
    run_id = begin(client)
    assert send(client, run_id, point(1, 1.0)).status_code == 200
    database = Database(settings.database_path)
    for hours, expected in ((23, "running"), (25, "failed")):
        with database.write() as session:
            outside.give_up(session, time.time() + 3600 * hours)
        assert client.get(f"/v1/runs/{run_id}").json()["status"] == expected
    database.close()


def test_the_same_key_begins_one_run(shared: httpx.Client) -> None:
    def again(name: str) -> httpx.Response:
        return shared.post("/v1/runs", json={"name": name}, headers={"Idempotency-Key": "of-a-script"})

    first, second = again("one"), again("one")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert again("two").json()["errors"][0]["param"] == "Idempotency-Key"


def test_only_its_owner_writes_to_a_run_and_a_private_one_does_not_exist(box: Box) -> None:
    with box.speaking_as("ada") as ada, box.speaking_as("bob") as bob, box.speaking_as("eve", Scope.READ) as eve:
        run_id = begin(ada)
        assert send(bob, run_id, point(1, 1.0)).status_code == 403
        assert bob.post(f"/v1/runs/{run_id}/finish", json={"status": "failed"}).status_code == 403
        assert send(eve, run_id, point(1, 1.0)).status_code == 403
        assert bob.delete(f"/v1/runs/{run_id}").status_code == eve.delete(f"/v1/runs/{run_id}").status_code == 403
        assert ada.put("/v1/projects/adas", json={"visibility": "private"}).status_code in (200, 201)
        hidden = begin(ada, project="adas")
        unknown = send(bob, "00000000-0000000", point(1, 1.0))
        assert send(bob, hidden, point(1, 1.0)).status_code == unknown.status_code == 404
        assert bob.post("/v1/runs", json={"name": "x", "project": "adas"}).status_code == 404


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path: Path = tmp_path_factory.mktemp("merging") / "curves.db"
    made = prepared(path)
    yield made
    made.close()


numbers = st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf])
logs = st.lists(st.lists(st.tuples(st.integers(0, 60), numbers), min_size=1, max_size=40), min_size=1, max_size=6)


@hypothesis_settings(max_examples=60, deadline=None)
@given(logs)
def test_merging_is_a_dictionary_by_step_with_rollups_that_fit(
    database: Database, batches: list[list[tuple[int, float]]]
) -> None:
    expected: dict[int, float] = {}
    with Session(database.writer) as session:
        for batch in batches:
            expected.update(batch)
            steps, values = (np.array(column) for column in zip(*batch, strict=True))
            curves.merge(session, RECORDING, [Logged("loss", steps, values.astype(np.float64), steps / 10)])
        [summary] = curves.find(session, [RECORDING])[RECORDING].values()
        there = stored.points(session, summary.series, 0, summary.count)
        assert there.steps.tolist() == sorted(expected)
        np.testing.assert_array_equal(there.values, [expected[step] for step in sorted(expected)])
        records = stored.records(session, summary.series, 1, 0, rollups.length(summary.count, 1))
        direct = rollups.merge(rollups.of_points(*there), rollups.groups(len(there.steps), rollups.FIRST))
        for name in ("position", "count", "nan", "min", "max", "first_step"):
            np.testing.assert_array_equal(records[name], direct[name])
        assert summary.last_step == max(expected)
        session.rollback()


def test_what_lies_too_far_back_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "FARTHEST_BACK", 10)
    with Session(database.writer) as session:
        steps = np.arange(20)
        curves.merge(session, RECORDING, [Logged("loss", steps, steps / 2, steps / 2)])
        with pytest.raises(InvalidInput):
            curves.merge(session, RECORDING, [Logged("loss", steps[:1], np.ones(1), np.ones(1))])
        session.rollback()


def example() -> Any:
    """The helper that scripts copy."""
    spec = importlib.util.spec_from_file_location("log_from_a_script", ROOT / "examples/log_from_a_script.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_a_script_says_where_its_run_is(
    shared: httpx.Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRAINBOX_URL", str(shared.base_url))
    monkeypatch.setenv("TRAINBOX_TOKEN", shared.headers["Authorization"].removeprefix("Bearer "))
    example().main()
    told = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("http"))
    run = shared.get(told).json()
    assert (run["status"], run["metrics"]["loss"]["count"]) == ("succeeded", 300)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


def test_the_helper_for_scripts_survives_a_restart_of_the_service(
    serve: Serve, settings: Settings, token: str, until: Until
) -> None:
    first = serve()
    port = int(first.url.rpartition(":")[2])
    with example().Log("a script", url=first.url, token=token, parameters={"lr": 0.1}) as log:
        for step in range(1, 301):
            log(step, loss=1 / step)
        first.should_exit = True
        for step in range(301, 601):
            log(step, loss=1 / step if step != 600 else float("nan"), val_accuracy=step / 600)
        until(lambda: not answers(first.url))
        again = serve(with_settings=settings.model_copy(update={"port": port}))
    with httpx.Client(base_url=again.url, headers={"Authorization": f"Bearer {token}"}) as client:
        run = client.get(f"/v1/runs/{log.run_id}").json()
        assert run["status"] == "succeeded"
        assert {name: metric["count"] for name, metric in run["metrics"].items()} == {"loss": 600, "val_accuracy": 300}
        found = curve(client, log.run_id)
    assert found["step"] == list(range(1, 601))
    assert found["y"][-1] == "NaN"


def test_the_helper_for_scripts_lets_the_error_of_the_training_through_when_the_service_is_gone(
    serve: Serve, token: str, until: Until
) -> None:
    server = serve()
    log = example().Log("a script", url=server.url, token=token, patience=0.0)
    server.should_exit = True
    until(lambda: not answers(server.url))
    with pytest.raises(ZeroDivisionError), log:
        log(1, loss=1 / 0)


def test_the_queries_for_a_person_with_sqlite_run(client: httpx.Client, settings: Settings) -> None:
    queries = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/operations.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(queries) == 3
    run_id = begin(client, parameters={"hyperparameters": {"learning_rate": 0.1}})
    losses = [point(step, 1.0 if step < 100 else 3.0, "train_loss") for step in range(200)]
    assert send(client, run_id, *losses, point(199, 0.5, "val_loss")).status_code == 200
    database = sqlite3.connect(f"file:{settings.database_path}?mode=ro", uri=True)
    last, best, averaged = (database.execute(query).fetchall() for query in queries)
    database.close()
    assert last == [("train_loss", 200, 3.0, 1.0, 3.0), ("val_loss", 1, 0.5, 0.5, 0.5)]
    assert best == [(run_id, "a script", 0.5, 199, 0.1)]
    assert averaged == [(0, 100, 1.0, 1.0, 1.0), (100, 100, 3.0, 3.0, 3.0)]

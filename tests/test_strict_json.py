"""What a JSON body may hold, and how everything wrong with it is told at once."""

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import numpy as np
import orjson
import pytest
from fastapi import APIRouter
from pydantic import Field

from service import raw_spec
from service.api.answers import Json, encode
from service.api.strict_json import MalformedJson, merged, parse
from service.api.strict_route import StrictBody, StrictRoute, described_body, open_ended
from service.errors import FieldProblem, InvalidInput
from service.spec import JobSpec, Part

BAD_LITERALS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, "1e" + "9" * 5000, "0." + "1" * 5000]
NOT_NUMBERS = ['"nan"', "true", '"5"', "null", "[]", "{}"]


class Inner(Part):
    rate: float = Field(gt=0, le=100)
    count: int = Field(default=1, ge=1, le=1_000_000)


class Outer(Part):
    name: Annotated[str, Field(max_length=20)] = ""
    inner: Inner
    sizes: list[Annotated[int, Field(ge=1)]] = [1]
    whole: int = 0
    tags: dict[str, str] = {}
    either: int | str = 0


reached: list[str] = []


@pytest.fixture(scope="module")
def router() -> APIRouter:
    router = APIRouter(route_class=StrictRoute)

    @router.post("/v1/outer")
    def outer(body: Outer, limit: Annotated[int, Field(le=10)] = 5) -> Json:
        reached.append("outer")
        return Json(body.model_dump())

    @router.post("/v1/spec", openapi_extra=described_body(JobSpec))
    def submit(body: StrictBody) -> Json:
        return Json(raw_spec.parse(body.tree, lambda _: body.problems).model_dump())

    @router.get("/v1/tagged")
    @open_ended("tag")
    def tagged(limit: int = 5) -> Json:
        return Json({})

    @router.post("/v1/optional")
    def optional(body: Inner | None = None) -> Json:
        return Json({"given": body is not None})

    return router


@pytest.fixture(scope="module")
def served(stand: Callable[..., httpx.Client], router: APIRouter) -> httpx.Client:
    return stand(router)


@pytest.fixture
def post(served: httpx.Client) -> Callable[..., httpx.Response]:
    def send(content: str | bytes, path: str = "/v1/outer") -> httpx.Response:
        return served.post(path, content=content, headers={"Content-Type": "application/json"})

    reached.clear()
    return send


def params(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    return sorted(problem["param"] for problem in answer.json()["errors"])


def test_a_number_that_json_does_not_have_is_named_alone_and_among_others(post: Callable[..., httpx.Response]) -> None:
    for literal in BAD_LITERALS:
        assert params(post(f'{{"inner": {{"rate": {literal}}}}}')) == ["inner.rate"], literal
        assert params(post(f'{{"inner": {{"rate": 1, "count": {literal}}}}}')) == ["inner.count"], literal
        assert params(post(f'{{"inner": {{"rate": 1}}, "sizes": [1, {literal}]}}')) == ["sizes.1"], literal
        assert params(post(f'{{"inner": {{"rate": 1}}, "either": {literal}}}')) == ["either"], literal
        several = f'{{"inner": {{"rate": {literal}, "count": 0}}, "sizes": [], "nam": "x", "whole": "5"}}'
        assert params(post(several)) == ["inner.count", "inner.rate", "nam", "whole"], literal
    assert not reached


def test_only_a_number_is_a_number(post: Callable[..., httpx.Response]) -> None:
    for literal in NOT_NUMBERS:
        assert params(post(f'{{"inner": {{"rate": {literal}}}}}')) == ["inner.rate"]
        assert params(post(f'{{"inner": {{"rate": 1, "count": {literal}}}}}')) == ["inner.count"]
    assert params(post('{"inner": {"rate": 1, "count": 5.0}}')) == ["inner.count"]


def test_bounds_are_told(post: Callable[..., httpx.Response]) -> None:
    answer = post('{"inner": {"rate": 0, "count": 1000000000000}}')
    assert params(answer) == ["inner.count", "inner.rate"]
    messages = {problem["param"]: problem["message"] for problem in answer.json()["errors"]}
    assert messages["inner.rate"].endswith("greater than 0")
    assert messages["inner.count"].endswith("less than or equal to 1000000")


def test_an_unknown_field_is_named_with_what_was_meant(post: Callable[..., httpx.Response]) -> None:
    answer = post('{"inner": {"rat": 1}}')
    assert params(answer) == ["inner.rat", "inner.rate"]
    hints = {problem["param"]: problem.get("hint") for problem in answer.json()["errors"]}
    assert hints["inner.rat"] == "did you mean rate?"
    assert params(
        post('{"task": "classification", "dataset": "digits", "hyperparameters": {"learning_ratE": NaN}}', "/v1/spec")
    ) == ["hyperparameters.learning_ratE"]


def test_integers_are_exact_up_to_64_bits(post: Callable[..., httpx.Response]) -> None:
    for whole in (2**53 + 1, 2**63 - 1, -(2**63)):
        assert post(f'{{"inner": {{"rate": 1}}, "whole": {whole}}}').json()["whole"] == whole
    for whole in (2**63, -(2**63) - 1, 10**399):
        assert params(post(f'{{"inner": {{"rate": 1}}, "whole": {whole}}}')) == ["whole"]


@pytest.mark.parametrize("depth", [33, 900, 100_000])
@pytest.mark.parametrize("opening", ['{"a":', "["])
def test_deep_nesting_is_refused_at_once(post: Callable[..., httpx.Response], depth: int, opening: str) -> None:
    closing = "}" if opening[0] == "{" else "]"
    nested = f'{{"inner": {{"rate": 0}}, "a": {opening * (depth - 1)}1{closing * (depth - 1)}}}'
    for content in (nested, opening * depth):
        began = time.process_time()  # the server's too; what others compute beside it does not count
        assert post(content).status_code in (400, 422)
        assert time.process_time() - began < 1
    if depth < 100_000:
        assert "inner.rate" in params(post(nested))


def test_nesting_that_a_spec_may_need_is_fine() -> None:
    assert parse(b'{"a":' * 32 + b"1" + b"}" * 32).problems == []
    assert parse(b'{"a":' + b"[" * 31 + b"]" * 31 + b"}").problems == []
    assert [problem.code for problem in parse(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}").problems] == ["too_deep"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"inner": {"rate": 1}, "inner": {"rate": 2}}', 422),
        (b'{"inner": {"rate": 1, "rate": 1}}', 422),
        (b'{"inner": {"rate": 1}, "tags": {"a": "1", "\\u0061": "2"}}', 422),
        (b"\xff\xfe{}", 400),
        (b'{"name": "\xc3\x28"}', 400),
        ('{"inner": {"rate": 1}}'.encode("utf-16"), 400),
        ('{"inner": {"rate": 1}}'.encode("utf-16-le"), 400),
        (b'\xef\xbb\xbf{"inner": {"rate": 1}}', 400),
        (b"", 400),
        (b"  ", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b"5", 422),
        (b"{", 400),
        (b'{"inner": {"rate": 1}} x', 400),
        (b"{'inner': 1}", 400),
        (b'{"inner": {"rate": 1},}', 400),
        (b'{"inner": {"rate": .5}}', 400),
        (b'{"name": "a\nb"}', 400),
        (b'{"name": "a\0b"}', 400),
        (b'{"inner": {"rate": 1}, "name": "\\u0000"}', 422),
        (b'{"inner": {"rate": 1}, "name": "\\ud800"}', 422),
        (b'{"inner": {"rate": 1}, "tags": {"\\udc00": "x"}}', 422),
        (b'{"inner": {"rate": 1}, "\\u0000": 1}', 422),
    ],
)
def test_what_is_not_plain_json_is_refused(post: Callable[..., httpx.Response], content: bytes, status: int) -> None:
    answer = post(content)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert not reached


def test_a_key_that_comes_twice_is_named() -> None:
    found = parse(b'{"a": {"b": 1, "c": 2, "b": 3}, "d": [{"e": 1, "e": 1}]}').problems
    assert sorted(problem.param for problem in found) == ["a.b", "d.0.e"]
    assert {problem.code for problem in found} == {"duplicate_key"}


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse(b'{"a": "\\ud83d\\ude00"}').tree == {"a": "\N{GRINNING FACE}"}


def test_malformed_json_says_where_and_not_what() -> None:
    with pytest.raises(MalformedJson, match="line 2, column 6: Expecting value") as raised:
        parse(b'{\n"a": s3cret}')
    assert "s3cret" not in str(raised.value)


def test_ordinary_json_is_read_like_any_other_reader_does() -> None:
    tree: Any = {"a": [1, -2.5, 1e-300, True, False, None, "ä\n\t", {}], "": {"b": []}, "n": 0.1 + 0.2}
    assert parse(json.dumps(tree).encode()).tree == tree
    assert parse(json.dumps(tree, ensure_ascii=False).encode()).problems == []


def test_a_long_body_is_read_quickly() -> None:
    points = [{"metric": "train_loss", "step": step, "value": step / 7} for step in range(10_000)]
    body = json.dumps({"points": points}).encode()
    began = time.thread_time()  # what others compute beside it does not count
    assert parse(body).tree == {"points": points}
    assert time.thread_time() - began < 0.5


def test_problems_of_the_same_field_are_told_once() -> None:
    first = [FieldProblem("a.b", "not_finite", "")]
    further = [FieldProblem(param, "", "") for param in ("a.b", "a.b.c", "a.bc", "a")]
    assert [problem.param for problem in merged(first, further)] == ["a.b", "a.bc", "a"]


def test_a_spec_that_is_validated_by_the_trunk_hears_of_all_its_problems(post: Callable[..., httpx.Response]) -> None:
    content = """{"task": "classification", "dataset": 5, "priority": 1e999,
                  "hyperparameters": {"learning_rate": NaN, "batch_size": Infinity, "epochs": 0, "seed": 1, "seed": 2},
                  "model": {"type": "mlp", "hidden_sizes": [NaN]}}"""
    assert params(post(content, "/v1/spec")) == [
        "dataset",
        "hyperparameters.batch_size",
        "hyperparameters.epochs",
        "hyperparameters.learning_rate",
        "hyperparameters.seed",
        "model.hidden_sizes.0",
        "priority",
    ]
    assert post('{"task": "classification", "dataset": "digits"}', "/v1/spec").status_code == 200
    assert post("", "/v1/spec").status_code == 400


def test_body_and_query_are_told_together(post: Callable[..., httpx.Response]) -> None:
    assert params(post('{"inner": {"rate": NaN}}', "/v1/outer?limit=11&lmit=3")) == ["inner.rate", "limit", "lmit"]
    assert params(post('{"inner": {"rate": 0}}', "/v1/outer?limit=11")) == ["inner.rate", "limit"]


def test_parameters_with_a_free_end_are_known_by_their_beginning(served: httpx.Client) -> None:
    assert served.get("/v1/tagged", params={"tag.a": "1", "tag.b.c": "2"}).status_code == 200
    assert params(served.get("/v1/tagged", params={"tags.a": "1", "tag": "2"})) == ["tag", "tags.a"]


def test_a_body_that_is_missing_is_told_like_one_that_is_empty(shared: httpx.Client) -> None:
    for path in ("/v1/jobs", "/v1/users", "/v1/tokens", "/v1/runs"):
        answer = shared.post(path)
        assert (answer.status_code, answer.json()["detail"]) == (400, "the body is not JSON: it is empty")


def test_a_body_may_be_left_out_where_it_is_optional(post: Callable[..., httpx.Response]) -> None:
    assert post("", "/v1/optional").json() == {"given": False}
    assert post('{"rate": 1}', "/v1/optional").json() == {"given": True}
    assert params(post('{"rate": NaN}', "/v1/optional")) == ["rate"]


def test_a_described_body_refers_to_nothing() -> None:
    text = json.dumps(described_body(JobSpec))
    assert "$ref" not in text
    assert "hidden_sizes" in text


def test_answers_spell_what_json_cannot_say() -> None:
    nan, infinity = float("nan"), float("inf")
    values = np.array([1.0, nan, infinity, -infinity])
    content = {
        "a": nan,
        "b": [1, 2.5, infinity],
        "c": (-infinity,),
        "d": {"e": [{"f": nan}]},
        "g": values,
        "h": np.arange(3),
        "i": np.float32(nan),
        "j": [None, nan, "x", True],
        "k": values.reshape(2, 2)[:, 1],
        "l": Inner(rate=1),
        "m": [1.7e308, 1.7e308],
        "n": np.array([0.5, 1.5], dtype=np.float32),
    }
    assert json.loads(encode(content)) == {
        "a": "NaN",
        "b": [1, 2.5, "Infinity"],
        "c": ["-Infinity"],
        "d": {"e": [{"f": "NaN"}]},
        "g": [1.0, "NaN", "Infinity", "-Infinity"],
        "h": [0, 1, 2],
        "i": "NaN",
        "j": [None, "NaN", "x", True],
        "k": ["NaN", "-Infinity"],
        "l": {"rate": 1.0, "count": 1},
        "m": [1.7e308, 1.7e308],
        "n": [0.5, 1.5],
    }


def test_finite_answers_cost_little_more_than_writing_them() -> None:
    content = {"x": list(range(10_000)), "y": [value / 7 for value in range(10_000)], "z": np.random.rand(10_000)}

    def seconds(write: Callable[[], object]) -> float:
        best = 1.0
        for _ in range(20):
            began = time.perf_counter()
            write()
            best = min(best, time.perf_counter() - began)
        return best

    plain = seconds(lambda: orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))
    assert seconds(lambda: encode(content)) < 2 * plain


def test_only_an_object_is_a_body() -> None:
    with pytest.raises(InvalidInput) as raised:
        parse(b"[1]")
    assert [problem.param for problem in raised.value.problems] == ["body"]

"""A route gets the same arguments, and a wrong request the same answer, on the short way and on FastAPI's own."""

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import httpx
import pytest
from conftest import Stand
from fastapi import APIRouter, Depends, Query, Request
from fastapi.routing import APIRoute, iter_route_contexts
from hypothesis import given, settings, strategies as st
from pydantic import AfterValidator

from service.api import arguments
from service.api.access import Reader
from service.api.answers import Json
from service.api.server import Server
from service.api.strict_route import StrictRoute, open_ended
from service.errors import FieldProblem, InvalidInput, NotFound

# What is asked for most, or is to be answered in no time.
HOT = {
    "/v1/jobs",
    "/v1/jobs/{job_id}",
    "/v1/runs",
    "/v1/runs/{run_id}",
    "/v1/runs/{run_id}/curves",
    "/v1/compare",
    "/healthz",
}
called: list[str] = []


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def known(text: str) -> str:
    if text == "nobody":
        raise NotFound("user")
    return text


async def inner(request: Request, colour: Colour = Colour.RED) -> str:
    called.append("inner")
    return f"{colour.value} {request.method}"


async def outer(made: Annotated[str, Depends(inner)], limit: Annotated[int, Query(ge=1, le=9)] = 5) -> str:
    if limit == 4:
        raise InvalidInput([FieldProblem("limit", "four", "not four")])
    return f"{made} {limit}"


@open_ended("tag")
def echo(
    principal: Reader,
    name: Annotated[str, AfterValidator(known)],
    first: Annotated[str, Depends(inner)],
    second: Annotated[str, Depends(outer)],
    several: Annotated[list[Annotated[int, Query(ge=0)]], Query(min_length=1, max_length=3)],
    points: Annotated[int, Query(ge=1)] | Literal["all"] = 10,
    start: Annotated[float | None, Query(alias="from")] = None,
    exact: bool = False,
) -> Json:
    return Json([principal.user, name, first, second, several, points, start, exact])


def by_fastapi(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but that it does not say what it answers: so its arguments are not looked for the short way."""

    @open_ended("tag")
    def same(**given: Any) -> Any:
        return function(**given)

    vars(same)["__signature__"] = inspect.signature(function).replace(return_annotation=Any)
    return same


@pytest.fixture(scope="module")
def served(stand: Stand) -> httpx.Client:
    router = APIRouter(route_class=StrictRoute)
    router.get("/v1/short/{name}")(echo)
    router.get("/v1/own/{name}")(by_fastapi(echo))
    short, own = (arguments.calls(route.dependant) for route in router.routes if isinstance(route, APIRoute))
    assert short is not None
    assert [call.function for call in short].count(inner) == 1
    assert own is None
    return stand(router)


def test_what_is_asked_for_most_goes_the_short_way(server: Server) -> None:
    found = set()
    for route in iter_route_contexts(server.application.routes):
        original = route.original_route
        if isinstance(original, APIRoute) and "GET" in (original.methods or ()) and arguments.calls(original.dependant):
            found.add(original.path)
    assert found >= HOT


NAMES = st.sampled_from(["colour", "limit", "several", "several", "points", "from", "exact", "tag.a", "limt", "start"])
TEXTS = st.sampled_from(["red", "blue", "0", "1", "4", "10", "all", "true", "1e3", "NaN", "", "x y", "\u00e9", "-1"])


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(["ada", "ada", "ada", "nobody"]),
    query=st.lists(st.tuples(NAMES, TEXTS), max_size=5),
    several=st.lists(st.sampled_from(["0", "7"]), max_size=2),
)
def test_any_query_is_answered_alike_on_both_ways(
    served: httpx.Client, name: str, query: list[tuple[str, str]], several: list[str]
) -> None:
    asked = urlencode([*query, *(("several", text) for text in several)])
    short, own = (served.get(f"/v1/{way}/{name}?{asked}") for way in ("short", "own"))
    assert short.status_code == own.status_code in (200, 404, 422)
    told = [answer.json() for answer in (short, own)]
    if short.status_code != 200:
        told = [{key: value for key, value in each.items() if key != "request_id"} for each in told]
    assert told[0] == told[1]


def test_a_right_query_is_taken_whole(served: httpx.Client) -> None:
    query = "several=1&several=2&points=all&from=0.5&exact=true&colour=blue&limit=2&tag.a=b&limit=3"
    for way in ("short", "own"):
        assert served.get(f"/v1/{way}/ada?{query}").json() == [
            "admin", "ada", "blue GET", "blue GET 3", [1, 2], "all", 0.5, True,
        ]  # fmt: skip
        assert served.get(f"/v1/{way}/ada?several=1").json() == [
            "admin", "ada", "red GET", "red GET 5", [1], 10, None, False,
        ]  # fmt: skip


def test_nothing_is_called_before_everything_is_right(served: httpx.Client) -> None:
    called.clear()
    assert served.get("/v1/short/ada?several=1&colour=green").status_code == 422
    assert called == []
    assert served.get("/v1/short/ada?several=1").status_code == 200
    assert called == ["inner"]

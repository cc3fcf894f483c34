"""The short way from a request to what a route is called with, for requests in which everything is right.

FastAPI looks for it anew each time, which takes as long as to read a curve. Here it is laid out once. What is wrong
with a request, and what is found elsewhere than in its path and its query, stays FastAPI's affair.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fastapi import Request, Response
from fastapi._compat import ModelField, field_annotation_is_sequence
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.errors import ServiceError

# Defaults that may be given to one request after the other without a copy.
CONSTANTS = (str, int, float, Enum, type(None))
ELSEWHERE = (
    "header_params",
    "cookie_params",
    "body_params",
    "websocket_param_name",
    "http_connection_param_name",
    "response_param_name",
    "background_tasks_param_name",
    "security_scopes_param_name",
)

Values = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """Of the path or the query. several: it may come more than once, and all that come are taken."""

    field: ModelField
    alias: str
    several: bool
    required: bool
    default: Any


@dataclass(frozen=True)
class Call:
    """A function, and what it takes: from the request, the request itself, and what earlier calls have made."""

    function: Callable[..., Any]
    path: list[Parameter]
    query: list[Parameter]
    request: str | None
    made: list[tuple[str, int]]  # the name of an argument, and the place of the call


def calls(dependant: Dependant) -> list[Call] | None:
    """What is to be called for a route: each function once, behind those that it depends on, the route's own last.

    None when any of them takes what is not found here, or the route answers with something else than a response.
    """
    route = dependant.call
    answers = None if route is None else inspect.signature(route).return_annotation
    if not (isinstance(answers, type) and issubclass(answers, Response)) or not all(map(_is_plain, _tree(dependant))):
        return None
    found: list[Call] = []
    _lay_out(dependant, found, {})
    return found if all(inspect.iscoroutinefunction(call.function) for call in found[:-1]) else None


def find(wanted: list[Call], request: Request) -> list[Values] | None:
    """What each call takes from the request; None when anything is missing or wrong, and nothing was called then."""
    query = request.query_params.multi_items() if request.scope["query_string"] else []
    latest = dict(query)
    found = []
    try:
        for call in wanted:
            values = {} if call.request is None else {call.request: request}
            for each in call.path:
                values[each.field.name] = _valid(each, request.path_params[each.alias])
            for each in call.query:
                if each.alias not in latest:
                    if each.required:
                        return None
                    values[each.field.name] = each.default
                elif each.several:
                    values[each.field.name] = _valid(each, [text for name, text in query if name == each.alias])
                else:
                    values[each.field.name] = _valid(each, latest[each.alias])
            found.append(values)
    except (Wrong, ServiceError):
        return None
    return found


async def answer(wanted: list[Call], found: list[Values]) -> Response:
    """Calls one after the other; in a thread the route itself, if it is a plain function."""
    made: list[Any] = []
    for call, values in zip(wanted[:-1], found, strict=False):
        made.append(await call.function(**_completed(call, values, made)))
    route, arguments = wanted[-1].function, _completed(wanted[-1], found[-1], made)
    if inspect.iscoroutinefunction(route):
        response: Response = await route(**arguments)
    else:
        response = await run_in_threadpool(route, **arguments)
    return response


def _completed(call: Call, values: Values, made: list[Any]) -> Values:
    return values | {name: made[place] for name, place in call.made}


class Wrong(Exception):
    """A value that does not fit. What is wrong with it, FastAPI will find out and tell."""


def _valid(parameter: Parameter, value: Any) -> Any:
    taken, problems = parameter.field.validate(value, {}, loc=())
    if problems:
        raise Wrong
    return taken


def _tree(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for part in dependant.dependencies:
        yield from _tree(part)


def _is_plain(dependant: Dependant) -> bool:
    fields = [*dependant.path_params, *dependant.query_params]
    alone = dependant.use_cache and not any(getattr(dependant, name) for name in ELSEWHERE)
    return alone and all(map(_is_single, fields))


def _is_single(field: ModelField) -> bool:
    """Whether the field is one parameter, whose default can be shared, and not a model of several."""
    kind = field.field_info.annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return False
    asked = field.field_info
    return asked.is_required() or (isinstance(field.default, CONSTANTS) and not asked.validate_default)


def _lay_out(dependant: Dependant, found: list[Call], places: dict[Any, int]) -> int:
    """Adds the calls for a function, unless they are there already; the place of its own."""
    made = [(part.name, _lay_out(part, found, places)) for part in dependant.dependencies]
    if dependant.call not in places:
        assert dependant.call is not None
        places[dependant.call] = len(found)
        path, query = map(_parameters, (dependant.path_params, dependant.query_params))
        named = [(name, place) for name, place in made if name is not None]
        found.append(Call(dependant.call, path, query, dependant.request_param_name, named))
    return places[dependant.call]


def _parameters(fields: list[ModelField]) -> list[Parameter]:
    return [
        Parameter(
            field,
            field.alias,
            field_annotation_is_sequence(field.field_info.annotation),
            field.field_info.is_required(),
            field.default,
        )
        for field in fields
    ]

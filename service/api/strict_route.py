"""The class of all routes: bodies are read by `strict_json`, and a query parameter that no route knows is an error.

Everything wrong with body and query is told at once, also when it was found by different readers.
"""

import difflib
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from service.api import arguments, problems, strict_json
from service.api.strict_json import Parsed
from service.errors import FieldProblem, InvalidInput

LARGE = 1 << 16  # bytes; reading more than this would make the other requests wait

Function = TypeVar("Function", bound=Callable[..., Any])
Model = TypeVar("Model", bound=BaseModel)

_open_ended: dict[Callable[..., Any], tuple[str, ...]] = {}


def open_ended(*prefixes: str) -> Callable[[Function], Function]:
    """Declares that a route or dependency reads query parameters such as `tag.KEY` itself; prefixes without the dot."""

    def declare(function: Function) -> Function:
        _open_ended[function] = prefixes
        return function

    return declare


class StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        query = list(_query_fields(self.dependant))
        names = list(_names(query))
        prefixes = tuple(_prefixes(self.dependant))
        model = None if self.body_field is None else self.body_field.field_info.annotation
        hints = model if isinstance(model, type) and issubclass(model, BaseModel) else BaseModel
        calls = arguments.calls(self.dependant)

        async def handle_strictly(request: Request) -> Response:
            parsed = None
            if model is not None and (body := await request.body()):
                parsed = await read(body)
                request = _Read(request, body, parsed.tree)
            unknown = list(_unknown(request, names, prefixes)) if request.scope["query_string"] else []
            if unknown or (parsed and parsed.problems):
                # The route must not run: so its own reader of the request is not asked, but what it would say is.
                found = request_params_to_args(query, request.query_params)[1]
                if parsed:
                    found += _misfits(model, parsed.tree)
                told = parsed.problems if parsed else []
                further = problems.of_validation(found, hints, parsed and parsed.tree)
                raise InvalidInput(strict_json.merged([*unknown, *told], further))
            if calls is not None and (taken := arguments.find(calls, request)) is not None:
                return await arguments.answer(calls, taken)
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise InvalidInput(problems.of_validation(error.errors(), hints, parsed and parsed.tree)) from None

        return handle_strictly


class _Read(Request):
    """A request whose body has been read and parsed."""

    def __init__(self, request: Request, body: bytes, tree: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._bytes, self._tree = body, tree

    async def body(self) -> bytes:
        return self._bytes

    async def json(self) -> Any:
        return self._tree


async def read(body: bytes) -> Parsed:
    return await run_in_threadpool(strict_json.parse, body) if len(body) > LARGE else strict_json.parse(body)


async def strict_body(request: Request) -> Parsed:
    """The body as a tree with its problems, for a route that validates it itself."""
    return await read(await request.body())


StrictBody = Annotated[Parsed, Depends(strict_body)]


async def whole_body(request: Request) -> bytes:
    """The body as it came, for a route that reads it itself."""
    return await request.body()


WholeBody = Annotated[bytes, Depends(whole_body)]


def validated(model: type[Model], parsed: Parsed) -> Model:
    """The body as the model has it. Raises InvalidInput with all that is wrong, whichever reader found it."""
    try:
        made, misfits = model.model_validate(parsed.tree), []
    except ValidationError as error:
        misfits = _in_body(error)
    if misfits or parsed.problems:
        further = problems.of_validation(misfits, model, parsed.tree)
        raise InvalidInput(strict_json.merged(parsed.problems, further))
    return made


def described_body(model: type[BaseModel]) -> dict[str, Any]:
    """What a route with a `StrictBody` passes as `openapi_extra`, so that its description names the fields."""
    schema = model.model_json_schema()
    content = {"application/json": {"schema": _without_references(schema, schema.pop("$defs", {}))}}
    return {"requestBody": {"required": True, "content": content}}


def _without_references(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with each definition in the place that refers to it; none refers to itself."""
    if isinstance(schema, list):
        return [_without_references(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = definitions[name] | {key: value for key, value in schema.items() if key != "$ref"}
    # The mapping of a discriminator names definitions, which are no longer there.
    return {key: _without_references(part, definitions) for key, part in schema.items() if key != "discriminator"}


def _query_fields(dependant: Dependant) -> Iterator[Any]:
    yield from dependant.query_params
    for part in dependant.dependencies:
        yield from _query_fields(part)


def _names(fields: Iterable[Any]) -> Iterator[str]:
    for field in fields:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from (each.alias or name for name, each in model.model_fields.items())
        else:
            yield field.alias


def _prefixes(dependant: Dependant) -> Iterator[str]:
    if dependant.call is not None:
        yield from (f"{prefix}." for prefix in _open_ended.get(dependant.call, ()))
    for part in dependant.dependencies:
        yield from _prefixes(part)


def _unknown(request: Request, names: list[str], prefixes: tuple[str, ...]) -> Iterator[FieldProblem]:
    for name in request.query_params:
        if name not in names and not name.startswith(prefixes):
            close = difflib.get_close_matches(name[:64], names, n=1, cutoff=0.6)
            known = ", ".join([*sorted(names), *(f"{prefix}NAME" for prefix in prefixes)])
            hint = f"did you mean {close[0]}?" if close else f"known here: {known}" if known else None
            yield FieldProblem(name[:128], "unknown_parameter", "there is no such query parameter", hint)


def _misfits(model: Any, tree: Any) -> list[Any]:
    """What the model says against the tree, in which a refused value fits nowhere."""
    try:
        TypeAdapter(model).validate_python(tree)
    except ValidationError as error:
        return _in_body(error)
    return []


def _in_body(error: ValidationError) -> list[Any]:
    """Its errors as FastAPI would place them."""
    found = error.errors(include_input=False, include_url=False)
    return [{**each, "loc": ("body", *each["loc"])} for each in found]

"""Every error as the same body: `application/problem+json` after RFC 9457, made in this one place.

No answer repeats a value that was sent, and none tells of the inside of the service.
"""

import errno
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service import errors
from service.api.listener import CannotListen
from service.api.strict_json import MalformedJson
from service.curves.appending import PositionMismatch
from service.errors import (
    ErrandsBusy,
    FieldProblem,
    InsufficientScope,
    InvalidInput,
    KeyReused,
    QueueFull,
    ServiceError,
)
from service.field_problems import field_problems
from service.pictures.studio import StudioFailed
from service.users import LastAdmin

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

STATUS: dict[type[ServiceError], int] = {
    errors.InvalidInput: 422,
    errors.NotFound: 404,
    errors.IllegalMove: 409,
    errors.RunOver: 409,
    errors.NotNow: 409,
    errors.NoResult: 409,
    errors.NoReport: 409,
    errors.LeaseLost: 409,
    errors.InsufficientScope: 403,
    errors.NotOwner: 403,
    errors.AlreadyExists: 409,
    errors.KeyReused: 422,
    errors.MadeAndGone: 409,
    errors.QueueFull: 429,
    errors.SchemaMismatch: 503,
    errors.DatabaseDamaged: 503,
    errors.DatabaseUnusable: 503,
    errors.HomeUnusable: 503,
    errors.AlreadyRunning: 503,
    errors.UnsafeBind: 503,
    errors.DiskFull: 507,
    errors.QuotaExceeded: 507,
    errors.BuiltIn: 409,
    errors.DatasetInUse: 409,
    errors.Stopping: 503,
    errors.CopyFailed: 409,
    errors.WrongFile: 409,
    errors.ErrandsBusy: 503,
    errors.ErrandFailed: 503,
    LastAdmin: 409,
    StudioFailed: 503,
    PositionMismatch: 409,
    CannotListen: 503,
    MalformedJson: 400,
}

RETRY_QUEUE_SECONDS = 10
RETRY_BUSY_SECONDS = 1

# Primary result codes of SQLite (sqlite.org/rescode.html).
SQLITE_BUSY, SQLITE_LOCKED, SQLITE_FULL = 5, 6, 13
SQLITE_UNUSABLE = {8, 10, 11, 14, 26}  # READONLY, IOERR, CORRUPT, CANTOPEN, NOTADB


class Refusal(Exception):
    """A request that is turned away for its form, before anybody looked at what it asks."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, headers


def install(application: FastAPI) -> None:
    """Makes the application answer so. What no handler here knows ends at the gate, which asks `unexpected`."""
    handlers: dict[Any, Any] = {
        ServiceError: _of_service,
        Refusal: _of_refusal,
        RequestValidationError: _of_validation,
        HTTPException: _of_http,
        DBAPIError: _of_database,
        PoolTimeout: _of_database,
    }
    for kind, handler in handlers.items():
        application.add_exception_handler(kind, handler)


def document(
    status: int, code: str, detail: str, request_id: str, found: Sequence[FieldProblem] = ()
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"urn:trainbox:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
    }
    if found:
        body["errors"] = [problem.as_dict() for problem in found]
    return body


def answer(
    request_id: str,
    status: int,
    code: str,
    detail: str,
    found: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    content = orjson.dumps(document(status, code, detail, request_id, found))
    return Response(content, status, dict(headers or {}), MEDIA_TYPE)


def refused(request_id: str, refusal: Refusal) -> Response:
    return answer(request_id, refusal.status, refusal.code, refusal.detail, headers=refusal.headers)


def unexpected(request_id: str, error: Exception) -> Response:
    """The answer to what nobody foresaw, which is logged without its message: that may hold what was sent."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return answer(request_id, 507, "disk_full", "the disk of the service is full")
    known = of_driver(request_id, error)
    if known is not None:
        return known
    log.error("unexpected", request_id=request_id, error=_kinds(error), where=_places(error))
    return answer(request_id, 500, "internal", "the service made a mistake; its log tells more under this request_id")


def of_driver(request_id: str, error: Any) -> Response | None:
    """The answer to an error of the database driver that time or an operator will heal, else None."""
    result = getattr(error, "sqlite_errorcode", None)
    if not isinstance(result, int):
        return None
    primary = result & 0xFF
    if primary in (SQLITE_BUSY, SQLITE_LOCKED):
        return _busy(request_id)
    if primary == SQLITE_FULL:
        return answer(request_id, 507, "disk_full", "the disk of the database is full")
    if primary in SQLITE_UNUSABLE:
        log.error("database", request_id=request_id, error=getattr(error, "sqlite_errorname", ""))
        return answer(request_id, 503, "database_unavailable", "the database cannot be used: see the service's log")
    return None


def of_validation(found: Iterable[Any], model: type[BaseModel], body: Any) -> list[FieldProblem]:
    """FastAPI's errors as problems; the place where a field stood (body, query, path) is left out of its name."""
    in_body, elsewhere = [], []
    for error in found:
        place, *path = error["loc"] or ("body",)
        if place == "body":
            in_body.append({**error, "loc": tuple(path)})
        else:
            name = str(path[0]) if path else str(place)
            elsewhere += field_problems([{**error, "loc": tuple(path)}], {name: None}, model)
    return elsewhere + field_problems(in_body, body, model)


async def _of_service(request: Request, error: ServiceError) -> Response:
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    if status is None:
        return unexpected(_id(request), error)
    found = error.problems if isinstance(error, InvalidInput | KeyReused) else ()
    return answer(_id(request), status, _code(type(error)), str(error), found, _headers(error))


def _headers(error: ServiceError) -> dict[str, str] | None:
    if isinstance(error, InsufficientScope):
        return {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{error.needed.value}"'}
    if isinstance(error, QueueFull | ErrandsBusy):
        return {"Retry-After": str(RETRY_QUEUE_SECONDS)}
    return None


def _code(kind: type[ServiceError]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


async def _of_refusal(request: Request, error: Refusal) -> Response:
    return refused(_id(request), error)


async def _of_validation(request: Request, error: RequestValidationError) -> Response:
    return await _of_service(request, InvalidInput(of_validation(error.errors(), BaseModel, error.body)))


async def _of_http(request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return answer(_id(request), 404, "unknown_path", "there is nothing at this path")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = ", ".join(_methods(request))
        return answer(_id(request), 405, "method_not_allowed", f"here one can {allow}", headers={"Allow": allow})
    code = re.sub(r"\W+", "_", HTTPStatus(error.status_code).phrase).lower()
    return answer(_id(request), error.status_code, code, str(error.detail), headers=error.headers)


def _methods(request: Request) -> list[str]:
    """What the path can be asked with: the framework names the methods of one of its routes alone."""
    routes = request.app.routes
    tries = {method: {**request.scope, "method": method} for method in METHODS}
    return [name for name, scope in tries.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]


async def _of_database(request: Request, error: DBAPIError | PoolTimeout) -> Response:
    if isinstance(error, PoolTimeout):
        return _busy(_id(request))
    return of_driver(_id(request), error.orig) or unexpected(_id(request), error)


def _busy(request_id: str) -> Response:
    headers = {"Retry-After": str(RETRY_BUSY_SECONDS)}
    return answer(request_id, 503, "database_busy", "the database is busy: try again", headers=headers)


def _id(request: Request) -> str:
    return str(request.state.request_id)


def _kinds(error: BaseException | None) -> list[str]:
    """The error's class and those of its causes."""
    kinds: list[str] = []
    while error is not None and len(kinds) < 5:
        kinds.append(f"{type(error).__module__}.{type(error).__qualname__}")
        error = error.__cause__ or error.__context__
    return kinds


def _places(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]

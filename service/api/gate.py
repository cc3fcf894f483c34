"""What every request passes before any route sees it, and every answer on its way out.

It is put around the whole application: a path that nobody thought of is behind it too.
"""

import asyncio
import math
import re
from collections.abc import Iterable
from secrets import token_hex
from time import perf_counter
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import bodies, problems, web
from service.api.bodies import Upload
from service.api.limits import Buckets, Limits
from service.api.measures import Measures
from service.api.problems import Refusal
from service.errors import Stopping
from service.settings import Settings
from service.users import Principal, authenticate

log = structlog.get_logger()

# The files of the page are the same for everyone and tell nothing of the service.
OPEN = {(method, path) for path in ("/healthz", *web.FILES) for method in ("GET", "HEAD")}
# Scripts send many points at once and often: what a token may ask a second is not for them.
UNCOUNTED = re.compile(r"/v1/runs/[^/]+/points")
LONGEST_TOKEN = 256
LONGEST_LOGGED_PATH = 200
CLIENT_LEFT = 499

# Read by the gate, and wrong when they come twice: which one counts would be anybody's guess.
ONCE = frozenset(
    {
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"authorization",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
        b"idempotency-key",
    }
)

STOPPING = Refusal(503, "stopping", str(Stopping()), {"Connection": "close"})

ON_EVERY_ANSWER = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


def hosts(settings: Settings, port: int) -> frozenset[bytes]:
    """What a request may call this service: its own addresses at the port, and what the operator allows."""
    names = {"127.0.0.1", "localhost", "[::1]"}
    if settings.host not in ("0.0.0.0", "::"):  # noqa: S104 - nobody is meant to ask for these
        names.add(f"[{settings.host}]" if ":" in settings.host else settings.host)
    allowed = {f"{name}:{port}" for name in names} | set(settings.allowed_hosts)
    # Clients leave out the port that the scheme implies.
    short = {host.removesuffix(end) for host in allowed for end in (":80", ":443") if host.endswith(end)}
    return frozenset(host.lower().encode() for host in allowed | short)


class Gate:
    """ASGI middleware. For one event loop; `connection` is of the database driver and used nowhere else."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        connection: Any,
        allowed_hosts: frozenset[bytes],
        limits: Limits,
        measures: Measures,
        uploads: Iterable[Upload] = (),
    ) -> None:
        self._app = app
        self._connection = connection
        self._hosts = allowed_hosts
        self._origins = {scheme + host for host in allowed_hosts for scheme in (b"http://", b"https://")}
        self._limits = limits
        self._measures = measures
        self._uploads = tuple(uploads)
        self._requests = Buckets(limits.requests_per_second, burst=2 * limits.requests_per_second)
        self._failures = Buckets(limits.failed_logins_per_minute / 60, burst=limits.failed_logins_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"nothing here speaks {scope['type']}")
        began = perf_counter()
        status = 0
        request_id = token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _completed(message.get("headers", ()), request_id)
            await send(message)

        try:
            try:
                await self._app(scope, self._admit(scope, receive), answer)
            except Refusal as refusal:
                await problems.refused(request_id, refusal)(scope, receive, answer)
            except ClientDisconnect:
                status = status or CLIENT_LEFT
            except asyncio.CancelledError:  # it took longer than a service that stops waits for
                if status:
                    raise
                await problems.refused(request_id, STOPPING)(scope, receive, answer)
            except Exception as error:
                made = problems.unexpected(request_id, error)
                if status == 0:
                    await made(scope, receive, answer)
        finally:
            principal: Principal | None = state.get("principal")
            seconds = perf_counter() - began
            self._measures.met(scope["method"], _template(scope) or "unknown", status, seconds)
            log.info(
                "request",
                method=scope["method"],
                route=_route(scope),
                status=status,
                seconds=round(seconds, 6),
                user=principal and principal.user,
                request_id=request_id,
            )

    def _admit(self, scope: Scope, receive: Receive) -> Receive:
        """Where the application reads the body from. Raises Refusal unless the request may come in."""
        headers = _headers(scope["headers"])
        self._check_browser(headers, scope["path"])
        if (scope["method"], scope["path"]) in OPEN:
            return receive
        principal = self._principal(headers, scope)
        scope["state"]["principal"] = principal
        if not UNCOUNTED.fullmatch(scope["path"]):
            wait = self._requests.take(principal.token_id)
            if wait:
                raise _too_many("too_many_requests", "this token asks too often", wait)
        return bodies.checked(headers, scope, receive, self._uploads, self._limits)

    def _check_browser(self, headers: dict[bytes, bytes], path: str) -> None:
        """A page of somebody else, opened in a browser that can reach this service, must not speak through it."""
        host = headers.get(b"host")
        if host is None or host.lower() not in self._hosts:
            raise Refusal(400, "unknown_host", "the header Host is not one of this service: see TRAINBOX_ALLOWED_HOSTS")
        origin = headers.get(b"origin")
        if origin is not None and origin.lower() not in self._origins:
            raise Refusal(403, "foreign_origin", "requests of pages from elsewhere are not taken")
        # The page itself may be come to by a link, from a chat or a wiki.
        if headers.get(b"sec-fetch-site") == b"cross-site" and path != "/":
            raise Refusal(403, "foreign_origin", "requests of pages from elsewhere are not taken")

    def _principal(self, headers: dict[bytes, bytes], scope: Scope) -> Principal:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise _unauthorized("send the header Authorization: Bearer TOKEN")
        principal = None
        if len(token) <= LONGEST_TOKEN and token.isascii():
            principal = authenticate(self._connection, token.decode())
        if principal is None:
            # Only now: whoever has a valid token is never made to wait for the failures of others at his address.
            wait = self._failures.take((scope.get("client") or ("",))[0])
            if wait:
                raise _too_many("too_many_failed_logins", "too many invalid tokens from this address", wait)
            raise _unauthorized("the token is not valid: it is unknown, expired or revoked")
        return principal


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in raw:
        if name in ONCE:
            if name in found:
                raise Refusal(400, "repeated_header", f"the header {name.decode().title()} may come once")
            found[name] = value
    return found


def _completed(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    given = list(headers)
    names = {name for name, _ in given}
    given += [header for header in ON_EVERY_ANSWER if header[0] not in names]
    given.append((b"x-request-id", request_id.encode()))
    return given


def _route(scope: Scope) -> str:
    """The route's template, or the path when there is none; never the query, and nothing that looks like a token."""
    return _template(scope) or re.sub(r"tbx_\S*", "tbx_…", scope["path"])[:LONGEST_LOGGED_PATH]


def _template(scope: Scope) -> str | None:
    return getattr(scope.get("route"), "path", None)


def _unauthorized(detail: str) -> Refusal:
    return Refusal(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})


def _too_many(code: str, detail: str, wait: float) -> Refusal:
    return Refusal(429, code, detail, {"Retry-After": str(math.ceil(wait))})

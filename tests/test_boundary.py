"""What stands between the network and the routes: hosts, pages from elsewhere, bodies, slow and greedy clients."""

import html
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from itertools import count, product
from typing import Any

import httpx
import psutil
import pytest
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute, iter_route_contexts

from service import database as database_module
from service.api import gate, listener, problems
from service.api.limits import Buckets, Limits
from service.api.listener import CannotListen
from service.api.server import GRACEFUL_SECONDS, Server, affordable
from service.api.strict_route import StrictRoute
from service.database import Database, sqlite_module
from service.errors import ServiceError, UnsafeBind
from service.settings import Settings

SLOW_SECONDS = 0.5


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def address(server: Server) -> tuple[str, int]:
    host, port = server.listener.getsockname()[:2]
    return host, port


def connect(server: Server) -> socket.socket:
    return socket.create_connection(address(server), timeout=20)


def exchange(client: httpx.Client, data: bytes) -> bytes:
    """Sends bytes as they are and returns all that is answered until the connection is closed."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20) as connection:
        connection.sendall(data)
        return read_all(connection)


def head(server: Server, method: str, path: str, *lines: str, token: str | None = None) -> bytes:
    given = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{address(server)[1]}", *lines]
    if token is not None:
        given.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*given, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionResetError:
        pass
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def problem_of(answer: bytes) -> dict[str, Any]:
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in headers
    found: dict[str, Any] = json.loads(body)
    return found


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "request_id"} <= body.keys()
    assert body["status"] == status
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return body


@pytest.fixture
def echo() -> APIRouter:
    """Routes that tell whether they were reached."""
    router = APIRouter()

    @router.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> dict[str, bool]:
        return {"alive": True}

    @router.api_route("/v1/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def echo(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @router.post("/v1/unread")
    def unread() -> dict[str, bool]:
        return {"reached": True}

    @router.get("/v1/fault")
    def fault(secret: str = "") -> None:
        raise RuntimeError(f"internal fault about {secret}")

    return router


def test_only_the_services_own_hosts_are_answered(serve: Callable[..., Server], token: str) -> None:
    server = serve()
    port = address(server)[1]
    allowed = [f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", f"[::1]:{port}"]
    for host in allowed:
        assert httpx.get(f"{server.url}/v1/whoami", headers=bearer(token) | {"Host": host}).status_code == 200
    for host in (
        "evil.com",
        f"evil.com:{port}",
        "127.0.0.1",
        f"127.0.0.1:{port + 1}",
        f"127.0.0.1:{port}.evil.com",
        "",
    ):
        answer = httpx.get(f"{server.url}/v1/whoami", headers=bearer(token) | {"Host": host})
        assert assert_problem(answer, 400)["code"] == "unknown_host"
    for second in ("evil.com", allowed[0]):
        with connect(server) as connection:
            connection.sendall(head(server, "GET", "/v1/whoami", f"Host: {second}", "Connection: close", token=token))
            assert problem_of(read_all(connection))["code"] == "repeated_header"


def test_no_route_answers_a_foreign_host(serve: Callable[..., Server], echo: APIRouter, token: str) -> None:
    server = serve(echo)
    for route in iter_route_contexts(server.application.routes):
        for method in route.methods or ():
            path = re.sub("[{}]", "", route.path or "")
            answer = httpx.request(method, server.url + path, headers=bearer(token) | {"Host": "evil.com"})
            assert answer.status_code == 400, (method, path)
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_an_operator_names_further_hosts() -> None:
    settings = Settings(allowed_hosts=("box.example:443", "box.example:8080"), host="0.0.0.0")
    found = gate.hosts(settings, 80)
    assert {b"localhost", b"localhost:80", b"box.example", b"box.example:443", b"box.example:8080"} <= found
    assert b"0.0.0.0:80" not in found
    assert b"192.168.1.5:8000" in gate.hosts(Settings(host="192.168.1.5"), 8000)
    assert b"[::2]:8000" in gate.hosts(Settings(host="::2"), 8000)


@pytest.mark.parametrize(
    "origin", ["http://evil.com", "null", "https://127.0.0.1", "http://127.0.0.1:1", "file://", ""]
)
def test_a_page_from_elsewhere_changes_nothing(shared: httpx.Client, origin: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        preflight = {"Access-Control-Request-Method": "PUT"} if method == "OPTIONS" else {}
        answer = shared.request(method, "/v1/projects/mine", json={}, headers={"Origin": origin} | preflight)
        assert assert_problem(answer, 403)["code"] == "foreign_origin"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert shared.get("/v1/projects/mine").status_code == 404


def test_a_page_of_the_service_itself_may_speak(client: httpx.Client, server: Server) -> None:
    assert client.get("/v1/whoami", headers={"Origin": server.url}).status_code == 200
    assert client.get("/v1/whoami", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert client.get("/v1/whoami", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        None,
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/jsonp",
        "text/plain; application/json",
    ],
)
def test_what_a_form_can_send_is_not_json(shared: httpx.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    for body in (b'{"visibility": "team"}', iter([b'{"visibility": ', b'"team"}'])):
        assert_problem(shared.put("/v1/projects/mine", content=body, headers=headers), 415)
    assert shared.get("/v1/projects/mine").status_code == 404


def test_json_may_say_that_it_is_utf8(client: httpx.Client) -> None:
    for kind in ("application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"'):
        assert client.put("/v1/projects/mine", content=b"{}", headers={"Content-Type": kind}).is_success


def test_a_request_without_a_body_needs_a_token_like_any_other(serve: Callable[..., Server], echo: APIRouter) -> None:
    assert httpx.post(f"{serve(echo).url}/v1/unread").status_code == 401


def test_a_compressed_body_is_refused(shared: httpx.Client) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert_problem(shared.put("/v1/projects/mine", content=b"\x1f\x8b" * 100, headers=headers), 415)


def test_a_redirect_never_leaves_the_service(server: Server, token: str) -> None:
    for path in (
        "//evil.com/x/",
        "/\\evil.com",
        "/v1/users/",
        "//v1/users",
        "/v1/whoami/",
        "http://evil.com/v1/users/",
    ):
        with connect(server) as connection:
            connection.sendall(head(server, "GET", path, "Connection: close", token=token))
            answer = read_all(connection)
        assert status_of(answer) == 404, path
        assert b"location:" not in answer.lower()


def test_every_answer_carries_the_same_headers(serve: Callable[..., Server], echo: APIRouter, token: str) -> None:
    server = serve(echo)
    with httpx.Client(base_url=server.url) as client:
        answers = [
            client.get("/healthz"),
            client.get("/nowhere"),
            client.get("/v1/whoami", headers=bearer(token) | {"X-Request-Id": "mine"}),
            client.get("/v1/fault", headers=bearer(token)),
            client.request("BREW", "/"),
        ]
    assert [answer.status_code for answer in answers] == [200, 401, 200, 500, 400]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["Cache-Control"] == "no-store"
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["X-Request-Id"])
        assert "Server" not in answer.headers
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == len(answers)


def test_an_internal_fault_tells_nothing_of_what_was_sent(
    serve: Callable[..., Server],
    echo: APIRouter,
    token: str,
    logged: Callable[[], str],
    until: Callable[[Callable[[], object]], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    server = serve(echo)
    headers = bearer(token) | {"X-Secret": "s3cret-header"}
    answer = httpx.get(f"{server.url}/v1/fault", params={"secret": "s3cret-query"}, headers=headers)
    body = assert_problem(answer, 500)
    refused = httpx.post(
        f"{server.url}/v1/users", json={"name": "s3cret value", "s3cret-field": "s3cret-body"}, headers=headers
    )
    assert {problem["param"] for problem in assert_problem(refused, 422)["errors"]} == {"name", "s3cret-field"}
    until(lambda: refused.headers["X-Request-Id"] in logged())  # which is after the answer
    said = "".join([logged(), *capfd.readouterr()])
    assert body["request_id"] in said
    for text in (said, answer.text, refused.text.replace("s3cret-field", "")):
        assert "s3cret" not in text
        assert token not in text


def test_every_error_has_a_status() -> None:
    def kinds(of: type[ServiceError]) -> Iterator[type[ServiceError]]:
        for kind in of.__subclasses__():
            yield kind
            yield from kinds(kind)

    assert not set(kinds(ServiceError)) - problems.STATUS.keys()
    assert set(problems.STATUS.values()) <= {400, 403, 404, 409, 422, 429, 503, 507}


def test_every_route_reads_strictly(server: Server) -> None:
    for route in iter_route_contexts(server.application.routes):
        if isinstance(route.original_route, APIRoute):
            assert isinstance(route.original_route, StrictRoute), route.path


def test_what_is_not_there_and_what_cannot_be_done(shared: httpx.Client) -> None:
    assert assert_problem(shared.get("/v1/nothing"), 404)["code"] == "unknown_path"
    answer = shared.patch("/v1/users")
    assert_problem(answer, 405)
    assert answer.headers["Allow"] == "GET, POST"


def test_a_mistyped_query_parameter_is_named(shared: httpx.Client) -> None:
    body = assert_problem(shared.get("/v1/users", params={"limt": 3, "after": "a b", "limit": 0, "x": ""}), 422)
    assert {problem["param"] for problem in body["errors"]} == {"limt", "after", "limit", "x"}
    assert {problem.get("hint") for problem in body["errors"] if problem["param"] == "limt"} == {"did you mean limit?"}
    body = assert_problem(shared.put("/v1/projects/mine?visibility=private", json={"member": [], "members": 5}), 422)
    assert {problem["param"] for problem in body["errors"]} == {"visibility", "member", "members"}
    assert shared.get("/v1/projects/mine").status_code == 404


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(["limit"], ["-1", "0", "201", "1000000000", "x", "", "5" * 5000, "1.5", "NaN", "１"]),
        *product(["after"], ["%", "'", ";--", "a" * 50, "(a+)+$" * 100, "\0", "..", "ZZ ZZ"]),
    ],
)
def test_pages_are_asked_for_within_bounds(shared: httpx.Client, name: str, value: str) -> None:
    began = time.monotonic()
    assert_problem(shared.get("/v1/tokens", params={name: value}), 422)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv;q=0.1, application/json", "application/json"),
        ("application/json;q=0.5,text/csv", "text/csv"),
        ("text/csv;q=0", "application/json"),
        ("*/*", "application/json"),
        ("text/html, text/plain;q=0.9, */*;q=0.8", "text/plain"),
        ("text/csv; header=present; q=much", "text/csv"),
        (";,;q=", "application/json"),
    ],
)
def test_the_weightiest_form_that_is_known_is_sent(shared: httpx.Client, accept: str, kind: str) -> None:
    answer = shared.get("/v1/users", headers={"Accept": accept})
    assert answer.headers["Content-Type"].partition(";")[0] == kind


def test_a_form_that_a_route_has_not_is_named_with_those_that_it_has(shared: httpx.Client) -> None:
    for path, form, last in (("/v1/users", "png", "text"), ("/v1/studies/00000000-0000000", "parquet", "svg")):
        [problem] = assert_problem(shared.get(path, params={"format": form}), 422)["errors"]
        assert problem["param"] == "format"
        assert problem["message"].endswith(f" or '{last}'")


def test_a_cursor_that_is_nobodys_gives_a_page_all_the_same(shared: httpx.Client) -> None:
    assert shared.get("/v1/tokens", params={"after": "00000000"}).json()["data"] == []
    assert shared.get("/v1/users", params={"after": "zzz"}).json()["data"] == []


@pytest.mark.parametrize(
    "name", ["../x", "..%2fx", "%252e%252e%252f", "%2Fetc%2Fpasswd", "a%00b", "a" * 300, "-x", "%F0%9F", "9" * 5000]
)
def test_a_name_in_a_path_is_a_name(shared: httpx.Client, name: str) -> None:
    assert shared.get(f"/v1/projects/{name}").status_code in (404, 422)
    assert shared.delete(f"/v1/tokens/{name}").status_code in (404, 422)


def test_a_large_body_is_refused_before_it_is_read(serve: Callable[..., Server], echo: APIRouter, token: str) -> None:
    server = serve(echo)
    memory = psutil.Process().memory_info().rss
    headers = bearer(token) | {"Content-Type": "application/json"}
    part = b" " * (1 << 20)
    waited = []
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=server.url) as other:
        for path in ("/v1/echo", "/v1/users", "/v1/unread"):
            for length in ({"Content-Length": str(40 << 20)}, {}):
                parts = (part for _ in range(40))
                sent = pool.submit(httpx.post, server.url + path, content=parts, headers=headers | length, timeout=20)
                while not sent.done():
                    began = time.monotonic()
                    assert other.get("/healthz").status_code == 200
                    waited.append(time.monotonic() - began)
                if path != "/v1/unread" or length:  # a route that reads nothing may answer before all is there
                    assert_problem(sent.result(), 413)
    assert statistics.median(waited) < 1  # of a busy machine, the slowest tells nothing of the service
    assert psutil.Process().memory_info().rss - memory < 50 << 20


def test_the_largest_body_is_read_whole(serve: Callable[..., Server], echo: APIRouter, token: str) -> None:
    server = serve(echo)
    headers = bearer(token) | {"Content-Type": "application/json"}
    for size, status in ((1 << 20, 200), ((1 << 20) + 1, 413)):
        for body in (b" " * size, iter([b" " * size])):
            assert httpx.post(f"{server.url}/v1/echo", content=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: -1"],
        ["Content-Length: 1e3"],
        ["Content-Length: 99999999999999999999"],
        ["Content-Length: 2", "Content-Length: 3"],
        ["Content-Length: 2", "Content-Length: 2"],
        ["Content-Length: 2", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Content-Length: 2, 2"],
        ["Content-Type: application/json", "Content-Length: 2"],
        ["X: a\0b"],
        ["X : a"],
    ],
)
def test_a_malformed_request_is_answered_and_the_connection_closed(shared: httpx.Client, lines: list[str]) -> None:
    given = [
        "PUT /v1/projects/mine HTTP/1.1",
        f"Host: 127.0.0.1:{shared.base_url.port}",
        f"Authorization: {shared.headers['Authorization']}",
        "Content-Type: application/json",
        "Connection: close",
        *lines,
    ]
    answer = exchange(shared, "\r\n".join([*given, "", "{}"]).encode())
    assert status_of(answer) == 400
    assert problem_of(answer)["status"] == 400
    assert shared.get("/v1/projects/mine").status_code == 404


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"a" * 90])
def test_what_is_not_http_is_told_so(shared: httpx.Client, data: bytes) -> None:
    assert problem_of(exchange(shared, data))["code"] == "malformed_request"


def test_a_request_that_names_no_host_is_refused(shared: httpx.Client) -> None:
    assert problem_of(exchange(shared, b"GET /healthz HTTP/1.0\r\n\r\n"))["code"] == "unknown_host"


@pytest.mark.parametrize(
    "lines", [["X: " + "a" * 16_400], ["X: y"] * 4000, [f"X{number}: {'a' * 200}" for number in range(100)]]
)
def test_a_large_head_is_refused(server: Server, token: str, lines: list[str]) -> None:
    data = head(server, "GET", "/v1/whoami", *lines, token=token)
    for parts in ([data], [data[at : at + 1000] for at in range(0, 20_000, 1000)], [data[:-2]]):
        with connect(server) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(0.001)
            except ConnectionError:
                continue
            answer = read_all(connection)
            assert not answer or problem_of(answer)["status"] == 431
    with connect(server) as connection:
        connection.sendall(data)
        assert status_of(read_all(connection)) == 431


def test_a_long_path_is_a_large_head(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(head(server, "GET", "/" + "a" * 16_500))
        assert status_of(read_all(connection)) == 431


def closes_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return read_all(connection) is not None
    except TimeoutError:
        return False


def test_a_client_that_does_not_ask_is_not_kept(
    serve: Callable[..., Server], echo: APIRouter, patient: Limits, token: str
) -> None:
    server = serve(echo, allowed=replace(patient, head_seconds=SLOW_SECONDS))
    request = head(server, "GET", "/v1/echo", token=token)
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(server)) for _ in range(20)]
        for number, connection in enumerate(opened):
            if number % 2:
                connection.sendall(request[:30])
        kept = stack.enter_context(connect(server))
        kept.sendall(request)
        assert status_of(kept.recv(4096)) == 200
        kept.sendall(request[:-2])
        assert httpx.get(f"{server.url}/v1/echo", headers=bearer(token)).status_code == 200
        assert all(closes_within(connection, 2) for connection in [*opened, kept])


def test_a_head_that_trickles_is_cut_off(serve: Callable[..., Server], patient: Limits) -> None:
    server = serve(allowed=replace(patient, head_seconds=SLOW_SECONDS))
    began = time.monotonic()
    with connect(server) as connection, pytest.raises(OSError):  # noqa: PT012
        for byte in head(server, "GET", "/healthz") + b"X: " + b"a" * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
    assert SLOW_SECONDS <= time.monotonic() - began < 10


def test_silent_clients_do_not_keep_others_out(
    serve: Callable[..., Server], echo: APIRouter, patient: Limits, token: str, until: Callable[..., None]
) -> None:
    server = serve(echo, allowed=replace(patient, connections=8))
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(40)]
        for _ in range(5):
            assert httpx.get(f"{server.url}/v1/echo", headers=bearer(token)).status_code == 200
        assert closes_within(silent[0], 2)
        until(lambda: len(server.server_state.connections) <= 8)


def test_clients_beyond_the_limit_are_turned_away_until_there_is_room(
    serve: Callable[..., Server], patient: Limits, token: str, until: Callable[..., None]
) -> None:
    router, busy = APIRouter(), []

    @router.get("/v1/hold")
    async def hold(request: Request) -> None:
        busy.append(request)
        await request.body()
        await request.receive()  # until the client leaves

    server = serve(router, allowed=replace(patient, connections=4))
    with ExitStack() as stack:
        for _ in range(4):
            held = stack.enter_context(connect(server))
            held.sendall(head(server, "GET", "/v1/hold", token=token))
        until(lambda: len(busy) == 4)
        with connect(server) as connection:
            assert problem_of(read_all(connection))["code"] == "too_many_connections"
    until(lambda: not server.server_state.connections)
    assert httpx.get(f"{server.url}/v1/whoami", headers=bearer(token)).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(
    serve: Callable[..., Server], echo: APIRouter, patient: Limits, token: str
) -> None:
    server = serve(echo, allowed=replace(patient, body_seconds=SLOW_SECONDS))
    typed = ["Content-Type: application/json", "Content-Length: 100"]
    with connect(server) as connection:
        connection.sendall(head(server, "POST", "/v1/echo", *typed, token=token) + b"{")
        answer = read_all(connection)
    assert problem_of(answer)["status"] == 408
    assert b"connection: close" in answer


def test_a_body_that_trickles_is_not_waited_for(
    serve: Callable[..., Server], echo: APIRouter, patient: Limits, token: str
) -> None:
    server = serve(echo, allowed=replace(patient, body_seconds=SLOW_SECONDS))
    began = time.monotonic()
    with connect(server) as connection:
        typed = ["Content-Type: application/json", "Content-Length: 100000"]
        connection.sendall(head(server, "POST", "/v1/echo", *typed, token=token))
        connection.settimeout(0.05)
        answer = b""
        while not answer and time.monotonic() - began < 5:
            connection.sendall(b" ")
            try:
                answer = connection.recv(4096)
            except TimeoutError:
                continue
    assert status_of(answer) == 408


def test_a_body_that_nobody_reads_does_not_break_the_connection(
    serve: Callable[..., Server], echo: APIRouter, patient: Limits, token: str
) -> None:
    server = serve(echo, allowed=replace(patient, unread_seconds=SLOW_SECONDS))
    typed = ["Content-Type: application/json", f"Content-Length: {2 << 20}"]
    with connect(server) as connection:
        connection.sendall(head(server, "POST", "/v1/unread", *typed, token=token))
        assert status_of(connection.recv(4096)) == 413
        connection.sendall(b" " * (2 << 20) + head(server, "GET", "/v1/echo", token=token))
        assert status_of(connection.recv(4096)) == 200
        connection.sendall(head(server, "POST", "/v1/unread", *typed, token=token))
        assert status_of(connection.recv(4096)) == 413
        assert closes_within(connection, 2)


def test_a_client_that_does_not_read_is_let_go(
    serve: Callable[..., Server], patient: Limits, token: str, until: Callable[..., None]
) -> None:
    router = APIRouter()

    @router.get("/v1/endless")
    def endless() -> StreamingResponse:
        return StreamingResponse(b" " * 65536 for _ in count())

    server = serve(router, allowed=replace(patient, write_seconds=SLOW_SECONDS))
    with connect(server) as connection:
        connection.sendall(head(server, "GET", "/v1/endless", token=token))
        until(lambda: not server.server_state.connections)


def test_pipelined_requests_are_answered_in_order(serve: Callable[..., Server], echo: APIRouter, token: str) -> None:
    server = serve(echo)
    typed = "Content-Type: application/json"
    with connect(server) as connection:
        bodies = [b" " * size for size in (1, 200_000, 3)]
        connection.sendall(
            b"".join(
                head(server, "POST", "/v1/echo", typed, f"Content-Length: {len(body)}", token=token) + body
                for body in bodies
            )
            + head(server, "GET", "/v1/echo", "Connection: close", token=token)
        )
        answer = read_all(connection)
    assert re.findall(rb'"bytes":\s*(\d+)', answer) == [b"1", b"200000", b"3", b"0"]


def test_a_token_that_asks_too_often_is_slowed_down_alone(
    serve: Callable[..., Server], patient: Limits, token: str, make_token: Callable[..., str]
) -> None:
    server = serve(allowed=replace(patient, requests_per_second=2))
    with httpx.Client(base_url=server.url) as client:
        began, taken = time.monotonic(), 0
        while (answer := client.get("/v1/whoami", headers=bearer(token))).status_code == 200:
            taken += 1
            assert taken <= 4 + 2 * (time.monotonic() - began), "two seconds' worth at once, and what came since"
        assert taken >= 4
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) == 1
        assert client.get("/v1/whoami", headers=bearer(make_token())).status_code == 200
        for _ in range(10):  # a script's points are not counted
            assert client.post("/v1/runs/0123456789/points", headers=bearer(token)).status_code != 429


def test_a_bucket_refills_and_the_oldest_is_forgotten() -> None:
    now = 0.0
    buckets = Buckets(rate=2, burst=4, most=2, seconds=lambda: now)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0]
    assert buckets.take("a") == pytest.approx(0.5)
    now = 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") == pytest.approx(0.5)
    for key in "bc":
        assert buckets.take(key) == 0
    assert buckets.take("a") == 0


def test_an_address_that_others_reach_is_refused_unless_it_is_meant() -> None:
    for host in ("0.0.0.0", "::"):
        with pytest.raises(UnsafeBind):
            listener.bound(host, 0, allow_remote=False)
    listener.bound("0.0.0.0", 0, allow_remote=True).close()


def test_a_taken_port_is_named(server: Server) -> None:
    port = address(server)[1]
    with pytest.raises(CannotListen, match=rf"port {port} of 127\.0\.0\.1: Address already in use"):
        listener.bound("127.0.0.1", port, allow_remote=False)
    with pytest.raises(CannotListen, match=r"port 0 of nowhere\.invalid: "):
        listener.bound("nowhere.invalid", 0, allow_remote=False)


def test_a_full_or_busy_database_is_told_so(
    serve: Callable[..., Server], token: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_MILLISECONDS", 300)
    router = APIRouter()

    @router.get("/v1/sql")
    def sql(request: Request, statement: str) -> None:
        with request.app.state.place.database.write() as session:
            session.connection().exec_driver_sql("PRAGMA busy_timeout=10")
            session.connection().exec_driver_sql(statement)

    server = serve(router)

    def ask(statement: str) -> httpx.Response:
        return httpx.get(f"{server.url}/v1/sql", params={"statement": statement}, headers=bearer(token), timeout=20)

    with database.read() as session:
        pages = session.connection().exec_driver_sql("PRAGMA page_count").scalar_one()
    assert ask("SELECT 1").status_code == 200  # leaves the short timeout on the connection
    with database.write():
        busy = ask("SELECT 1")
    assert assert_problem(busy, 503)["code"] == "database_busy"
    assert busy.headers["Retry-After"] == "1"
    assert ask(f"PRAGMA max_page_count={pages}").status_code == 200
    full = ask("INSERT INTO users VALUES (hex(randomblob(4000000)), '', NULL)")
    assert assert_problem(full, 507)["code"] == "disk_full"
    assert assert_problem(ask("INSERT INTO users VALUES ('admin', '', NULL)"), 500)


def test_many_who_find_the_database_busy_are_told_so_together(
    client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, many = 0.5, 20
    monkeypatch.setattr(database_module, "BUSY_MILLISECONDS", 1000 * seconds)
    with closing(sqlite_module().connect(str(settings.database_path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(many) as pool:
            began = time.monotonic()
            answers = list(pool.map(lambda number: client.put(f"/v1/projects/p{number}", json={}), range(many)))
            took = time.monotonic() - began
    for answer in answers:
        assert assert_problem(answer, 503)["code"] == "database_busy"
        assert answer.headers["Retry-After"] == "1"
    assert took < many * seconds / 2, "not one after the other"
    assert [project["name"] for project in client.get("/v1/projects").json()["data"]] == ["default"]
    assert client.put("/v1/projects/p0", json={}).is_success


def test_the_docs_load_nothing_from_anywhere(shared: httpx.Client) -> None:
    answer = shared.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not re.findall(r"<script|<link|<img|<iframe|\son\w+=|url\(|@import", answer.text)
    assert not re.findall(r'(?:src|href)="(?!#|/openapi\.json")', answer.text)
    for method, path in (("POST", "/v1/tokens"), ("GET", "/v1/projects/{name}"), ("DELETE", "/v1/users/{name}")):
        assert f">{method}</span>{path}<" in answer.text
    assert "expires_in_seconds" in answer.text
    assert "/v1/runs/RUN_ID/curves?metric=METRIC'" in html.unescape(answer.text), "what a query must say is shown"
    assert shared.get("/openapi.json").json()["security"] == [{"token": []}]


def test_what_a_schema_says_is_escaped_in_the_docs(serve: Callable[..., Server], token: str) -> None:
    router = APIRouter(tags=["<b>tag"])

    @router.get("/v1/<i>odd", description="<script>alert(1)</script>")
    def odd(name: str = "<img src=x onerror=alert(1)>") -> None: ...

    text = httpx.get(f"{serve(router).url}/docs", headers=bearer(token)).text
    assert not re.findall("<script|<img|<b>|<i>", text)


def test_a_signal_ends_the_service_in_good_order(settings: Settings, token: str) -> None:
    environment = os.environ | {"TRAINBOX_HOME": str(settings.home), "TRAINBOX_PORT": "0"}
    program = "from service.api.server import run; from service.settings import Settings; run(Settings())"
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        url = json.loads(process.stderr.readline())["url"]
        with httpx.Client(base_url=url, headers=bearer(token)) as client:
            assert client.get("/v1/whoami").status_code == 200
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read().decode()
            assert process.wait(20) == 0
        assert time.monotonic() - began < GRACEFUL_SECONDS
    assert "Traceback" not in said
    assert token not in said


def is_idle(process: psutil.Process) -> bool:
    """Whether it leaves most of a moment unused, as one would not that tries to accept for ever."""
    used, began = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(0.3)
    return sum(process.cpu_times()[:2]) - used < (time.monotonic() - began) / 4


WITH_FEW_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from service.api.server import run
from service.settings import Settings
run(Settings())
"""


def test_a_service_that_may_open_few_files_is_idle_under_many_connections_and_recovers(
    settings: Settings, token: str, until: Callable[..., None]
) -> None:
    environment = os.environ | {"TRAINBOX_HOME": str(settings.home), "TRAINBOX_PORT": "0"}
    with subprocess.Popen([sys.executable, "-c", WITH_FEW_FILES], env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        url = json.loads(process.stderr.readline())["url"]
        host, port = url.removeprefix("http://").split(":")

        def answered(path: str) -> int:
            try:
                return httpx.get(url + path, headers=bearer(token), timeout=20).status_code
            except httpx.TransportError:  # there is no room for it now
                return 0

        with ExitStack() as opened:
            for _ in range(200):
                with suppress(OSError):
                    opened.enter_context(socket.create_connection((host, int(port)), timeout=20))
            assert answered("/healthz") in (0, 200, 503)
            until(lambda: is_idle(psutil.Process(process.pid)))
        until(lambda: answered("/v1/jobs") == 200)
        process.terminate()
        process.stderr.read()
        assert process.wait(20) == 0


def test_a_process_that_may_open_few_files_holds_few_connections() -> None:
    assert affordable(Limits(), 128).connections == (128 - 48) // 3
    assert affordable(Limits(), 16).connections == 8
    assert affordable(Limits(connections=1), 1024).connections == 1

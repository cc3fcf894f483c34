"""Who gets in: tokens, scopes, and what happens to those who have none."""

import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import iter_route_contexts
from fastapi.staticfiles import StaticFiles
from starlette.routing import Mount

from service import clock, projects, users
from service.api.server import Server
from service.database import Database
from service.settings import Settings
from service.states import Scope
from service.tables import Table

OPEN = {(method, path) for method in ("GET", "HEAD") for path in ("/healthz", "/")}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def routes(server: Server) -> Iterator[tuple[str, str]]:
    """Every method and path that the application knows, those without a schema and those below mounts too."""
    for route in iter_route_contexts(server.application.routes):
        path = route.path or ""
        if isinstance(route.original_route, Mount):
            yield "GET", f"{path}/anything"
        for method in route.methods or ():
            yield method, path.replace("{", "").replace("}", "")


def assert_unauthorized(answer: httpx.Response) -> None:
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_every_route_asks_for_a_token(serve: Callable[..., Server], tmp_path: Any) -> None:
    files = APIRouter()
    files.mount("/static", StaticFiles(directory=tmp_path))
    server = serve(files)
    known = set(routes(server))
    assert {("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/static/anything"), ("POST", "/v1/tokens")} <= known
    described = server.application.openapi()["paths"]
    known |= {(method.upper(), path) for path, methods in described.items() for method in methods}
    with httpx.Client(base_url=server.url) as anonymous:
        for method, path in known - OPEN:
            assert_unauthorized(anonymous.request(method, path))
        for method in ("GET", "POST", "PATCH", "OPTIONS", "TRACE"):
            assert_unauthorized(anonymous.request(method, "/nowhere"))


def test_a_token_says_who_asks(client: httpx.Client, make_token: Callable[..., str]) -> None:
    me = client.get("/v1/whoami").json()
    assert (me["user"], me["scope"]) == ("admin", "admin")
    hers = client.get("/v1/whoami", headers=bearer(make_token(Scope.READ, "ada"))).json()
    assert (hers["user"], hers["scope"]) == ("ada", "read")
    assert hers["token_id"] != me["token_id"]


@pytest.mark.parametrize(
    "header",
    [
        b"Bearer TOKE",
        b"Bearer TOKEN x",
        b"Bearer TOKEN\xff",
        b"Bearer " + b"a" * 10_240,
        b"Basic TOKEN",
        b"TOKEN",
        b"Bearer",
        b"Bearer  TOKEN",
        b"",
    ],
)
def test_a_bent_token_is_unauthorized(server: Server, token: str, header: bytes) -> None:
    sent = header.replace(b"TOKEN", token.encode()).replace(b"TOKE", token[:-1].encode())
    assert_unauthorized(httpx.get(f"{server.url}/v1/whoami", headers=[(b"Authorization", sent)]))


def test_the_scheme_may_be_written_in_lower_case(server: Server, token: str) -> None:
    assert httpx.get(f"{server.url}/v1/whoami", headers={"Authorization": f"bearer {token}"}).status_code == 200


def test_two_authorization_headers_are_refused_in_either_order(server: Server, token: str) -> None:
    both = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer wrong")]
    for headers in (both, both[::-1], [both[0]] * 2):
        assert httpx.get(f"{server.url}/v1/whoami", headers=headers).status_code == 400


def test_a_token_counts_in_its_header_alone(server: Server, token: str) -> None:
    url = f"{server.url}/v1/whoami"
    for name in ("token", "access_token", "authorization"):
        assert_unauthorized(httpx.get(url, params={name: token}))
        assert_unauthorized(httpx.get(url, cookies={name: token}))
        assert_unauthorized(httpx.post(url, data={name: token}))


def test_a_revoked_token_is_refused_at_once_on_an_open_connection(
    client: httpx.Client, server: Server, make_token: Callable[..., str]
) -> None:
    with httpx.Client(base_url=server.url, headers=bearer(make_token())) as hers:
        token_id = hers.get("/v1/whoami").json()["token_id"]
        assert client.delete(f"/v1/tokens/{token_id}").status_code == 204
        assert_unauthorized(hers.get("/v1/whoami"))
    assert client.delete(f"/v1/tokens/{token_id}").status_code == 404


def test_the_tokens_of_a_removed_user_are_refused_and_the_name_is_not_given_again(
    client: httpx.Client, make_token: Callable[..., str]
) -> None:
    hers = bearer(make_token(Scope.SUBMIT, "ada"))
    assert client.delete("/v1/users/ada").status_code == 204
    assert_unauthorized(client.get("/v1/whoami", headers=hers))
    assert "ada" not in [user["name"] for user in client.get("/v1/users").json()["data"]]
    again = client.post("/v1/users", json={"name": "ada"})
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "there was a user of this name, and it is not given to another",
    )
    assert client.post("/v1/tokens", json={"user": "ada", "scope": "read"}).json()["errors"][0]["param"] == "user"
    assert client.delete("/v1/users/ada").status_code == 404


def test_an_expired_token_is_refused(client: httpx.Client, database: Database, make_token: Callable[..., str]) -> None:
    client.post("/v1/users", json={"name": "ada"})
    made = client.post("/v1/tokens", json={"user": "ada", "scope": "read", "expires_in_seconds": 3600}).json()
    assert made["expires_at"] > clock.now()
    headers = bearer(made["token"])
    assert client.get("/v1/whoami", headers=headers).status_code == 200
    with database.write() as session:
        users.token(session, made["id"]).expires_at = clock.now()
    assert_unauthorized(client.get("/v1/whoami", headers=headers))


def test_an_expiry_is_told_once_and_lies_ahead(client: httpx.Client) -> None:
    asked = {"user": "admin", "scope": "read"}
    for moment in (
        "2001-01-01T00:00:00Z",
        "2030-01-01T00:00:00",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00+23:59",
    ):
        answer = client.post("/v1/tokens", json=asked | {"expires_at": moment})
        assert [problem["param"] for problem in answer.json()["errors"]] == ["expires_at"]
    both = {"expires_at": "2100-01-01T00:00:00Z", "expires_in_seconds": 5}
    assert client.post("/v1/tokens", json=asked | both).status_code == 422
    until = client.post("/v1/tokens", json=asked | {"expires_at": "2100-01-01T01:00:00+01:00"}).json()["expires_at"]
    assert until == "2100-01-01T00:00:00.000Z"


def test_a_scope_that_does_not_reach_changes_nothing(client: httpx.Client, make_token: Callable[..., str]) -> None:
    read, submit = bearer(make_token(Scope.READ, "ada")), bearer(make_token(Scope.SUBMIT, "ada"))
    before = client.get("/v1/tokens").json()
    calls: list[tuple[str, str, dict[str, str], str]] = [
        ("PUT", "/v1/projects/mine", read, "submit"),
        *(
            (method, path, headers, "admin")
            for headers in (read, submit)
            for method, path in (
                ("GET", "/v1/users"),
                ("POST", "/v1/users"),
                ("DELETE", "/v1/users/admin"),
                ("GET", "/v1/tokens"),
                ("POST", "/v1/tokens"),
                ("DELETE", f"/v1/tokens/{before['data'][0]['id']}"),
            )
        ),
    ]
    for method, path, headers, needed in calls:
        content = None if method in ("GET", "DELETE") else b"{}"
        answer = client.request(method, path, headers=headers | {"Content-Type": "application/json"}, content=content)
        assert answer.status_code == 403, (method, path)
        assert answer.json()["code"] == "insufficient_scope"
        assert answer.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'
    assert client.get("/v1/tokens").json() == before
    assert [project["name"] for project in client.get("/v1/projects").json()["data"]] == ["default"]


def test_no_route_that_writes_takes_a_token_that_may_only_read(
    server: Server, make_token: Callable[..., str], settings: Settings
) -> None:
    written = {(method, path) for method, path in routes(server) if method in ("POST", "PUT", "PATCH", "DELETE")}
    assert {("DELETE", "/v1/jobs/job_id"), ("PUT", "/v1/datasets/name"), ("POST", "/v1/studies")} <= written
    with httpx.Client(base_url=server.url, headers=bearer(make_token(Scope.READ, "ada"))) as reader:
        for method, path in sorted(written):
            kind = "text/csv" if (method, path) == ("PUT", "/v1/datasets/name") else "application/json"
            place = re.sub("job_id|run_id|study_id", "00000000-0000000", path)
            body: dict[str, Any] = {} if method == "DELETE" else {"content": b"{}", "headers": {"Content-Type": kind}}
            answer = reader.request(method, place, **body)
            assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope"), (method, path)
    assert not list(settings.datasets_path.iterdir())


def test_the_last_admin_cannot_be_shut_out(client: httpx.Client, make_token: Callable[..., str]) -> None:
    own = client.get("/v1/whoami").json()["token_id"]
    make_token(Scope.SUBMIT, "ada")
    assert client.delete("/v1/users/admin").status_code == 409
    assert client.delete(f"/v1/tokens/{own}").status_code == 409
    hers = bearer(make_token(Scope.ADMIN, "ada"))
    assert client.delete("/v1/users/admin").status_code == 204
    assert client.get("/v1/whoami").status_code == 401
    assert client.delete("/v1/users/ada", headers=hers).status_code == 409


def test_secrets_are_shown_once_and_never_kept(
    client: httpx.Client,
    settings: Settings,
    database: Database,
    token: str,
    logged: Callable[[], str],
    until: Callable[[Callable[[], object]], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = client.post("/v1/tokens", json={"user": "admin", "scope": "read", "name": "laptop"}).json()
    listed = client.get("/v1/tokens").json()["data"]
    assert [entry["name"] for entry in listed] == ["laptop", "made at the first start"]
    assert all(not {"token", "digest"} & entry.keys() for entry in listed)
    client.get(f"/v1/{made['token']}", params={"token": made["token"]})
    refused = client.post(
        "/v1/tokens", json={"user": made["token"], "scope": made["token"], made["token"]: made["token"]}
    )
    until(lambda: refused.headers["X-Request-Id"] in logged())  # which is after the answer
    with database.read() as session:
        rows = [str(row) for table in Table.metadata.sorted_tables for row in session.execute(table.select())]
    files = [path.read_text() for path in settings.run_path.iterdir()]
    kept = "".join([*rows, *files, logged(), *capfd.readouterr()])
    assert "laptop" in kept
    for secret in (made["token"], token):
        assert secret.rpartition("_")[2] not in kept


def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(
    anonymous: httpx.Client, make_token: Callable[..., str]
) -> None:
    right = bearer(make_token())
    seen = []
    for number in range(50):
        answer = anonymous.get("/v1/whoami", headers=bearer(f"tbx_0123456789_{number:064x}"))
        seen.append(answer.status_code)
        assert anonymous.get("/v1/whoami", headers=right).status_code == 200
    assert seen[:10] == [401] * 10
    assert seen[10:] == [429] * 40
    assert 1 <= int(answer.headers["Retry-After"]) <= 6
    assert_unauthorized(anonymous.get("/v1/whoami"))  # nothing was guessed


def test_a_request_with_the_same_key_makes_one_token_and_shows_it_once(client: httpx.Client) -> None:
    asked = {"user": "admin", "scope": "read"}
    headers = {"Idempotency-Key": "one"}
    first, second = (client.post("/v1/tokens", json=asked, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert "token" in first.json()
    assert "token" not in second.json()
    assert second.json()["id"] == first.json()["id"]
    other = client.post("/v1/tokens", json=asked | {"name": "x"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert client.post("/v1/users", json=asked, headers=headers).status_code == 422
    assert len(client.get("/v1/tokens").json()["data"]) == 2


def test_requests_with_the_same_key_at_once_make_one_user(server: Server, token: str) -> None:
    headers = bearer(token) | {"Idempotency-Key": "one"}

    def create(_: int) -> httpx.Response:
        return httpx.post(f"{server.url}/v1/users", json={"name": "ada"}, headers=headers)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(create, range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert {answer.json()["name"] for answer in answers} == {"ada"}


def test_a_key_is_the_users_own_and_lasts_a_day(
    client: httpx.Client, database: Database, make_token: Callable[..., str]
) -> None:
    key = {"Idempotency-Key": "one"}
    other = bearer(make_token(Scope.ADMIN, "ada")) | key
    assert client.post("/v1/users", json={"name": "bob"}, headers=key).status_code == 201
    assert client.post("/v1/users", json={"name": "eve"}, headers=other).status_code == 201
    with database.write() as session:
        session.connection().exec_driver_sql(
            "UPDATE idempotency_keys SET created_at = '2001-01-01T00:00:00.000Z' WHERE user = 'admin'"
        )
    assert client.post("/v1/users", json={"name": "dan"}, headers=key).status_code == 201
    assert client.post("/v1/users", json={"name": "eve"}, headers=other).status_code == 200


@pytest.mark.parametrize("key", ["", "a b", "a" * 256, "ä"])
def test_a_key_is_visible_ascii(client: httpx.Client, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("utf-8"))]
    answer = client.post("/v1/users", json={"name": "ada"}, headers=headers)
    assert answer.status_code == 422
    assert [problem["param"] for problem in answer.json()["errors"]] == ["Idempotency-Key"]
    assert client.post("/v1/users", json={"name": "ada"}, headers={"Idempotency-Key": "~" * 255}).status_code == 201


def test_the_first_start_leaves_one_private_token_file(settings: Settings, database: Database) -> None:
    assert stat.S_IMODE(settings.token_path.stat().st_mode) == 0o600
    assert users.ensure_admin(database, settings.token_path) is None
    connection = database.reader.raw_connection()
    found = users.authenticate(connection.driver_connection, settings.token_path.read_text().strip())
    connection.close()
    assert found is not None
    assert (found.user, found.scope) == ("admin", Scope.ADMIN)


def test_a_first_start_that_was_killed_is_made_good(settings: Settings, database: Database) -> None:
    with database.write() as session:
        for table in ("project_members", "tokens", "users"):
            session.connection().exec_driver_sql(f"DELETE FROM {table}")
    stale = settings.token_path.read_text()
    made = users.ensure_admin(database, settings.token_path)
    assert made is not None
    assert settings.token_path.read_text().strip() == made != stale.strip()
    connection = database.reader.raw_connection()
    assert users.authenticate(connection.driver_connection, made) is not None
    assert users.authenticate(connection.driver_connection, stale.strip()) is None
    connection.close()


def test_the_token_file_is_not_written_through_a_link(settings: Settings, database: Database) -> None:
    with database.write() as session:
        for table in ("project_members", "tokens", "users"):
            session.connection().exec_driver_sql(f"DELETE FROM {table}")
    target = settings.home / "target"
    target.write_text("kept")
    settings.token_path.unlink()
    settings.token_path.symlink_to(target)
    users.ensure_admin(database, settings.token_path)
    assert target.read_text() == "kept"
    assert not settings.token_path.is_symlink()


def test_whether_a_token_still_counts_can_be_asked_later(database: Database, make_token: Callable[..., str]) -> None:
    token_id = make_token(Scope.READ, "ada").split("_")[1]
    with database.write() as session:
        assert users.is_valid(session, token_id)
        users.remove(session, "ada")
        assert not users.is_valid(session, token_id)
        assert not users.is_valid(session, "unknown")
        projects.ensure_default(session)  # again, without harm


def test_lists_come_in_pages(client: httpx.Client) -> None:
    for name in ("ada", "bob", "eve"):
        client.post("/v1/users", json={"name": name})
    first = client.get("/v1/users", params={"limit": 3}).json()
    assert [user["name"] for user in first["data"]] == ["ada", "admin", "bob"]
    assert (first["has_more"], first["next_after"]) == (True, "bob")
    second = client.get("/v1/users", params={"limit": 3, "after": "bob"}).json()
    assert [user["name"] for user in second["data"]] == ["eve"]
    assert (second["has_more"], second["next_after"]) == (False, None)
    tokens = [client.post("/v1/tokens", json={"user": "ada", "scope": "read"}).json()["id"] for _ in range(3)]
    page = client.get("/v1/tokens", params={"limit": 2}).json()
    assert [token["id"] for token in page["data"]] == tokens[:0:-1]
    rest = client.get("/v1/tokens", params={"after": page["next_after"]}).json()["data"]
    assert rest[0]["id"] == tokens[0]

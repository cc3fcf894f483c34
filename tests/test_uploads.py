"""Data sets that people bring, over HTTP: uploaded or registered, whatever a client, a disk or an attacker does."""

import http.client
import io
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from boxes import finish, submit, train, values
from conftest import Box, MakeToken, Serve, Until
from numpy.typing import NDArray

from service import plan as plans
from service.api import server as server_module
from service.api.limits import Limits
from service.api.server import Server
from service.datasets import arrays
from service.datasets.arrivals import draft
from service.errors import Stopping
from service.inspection import limited
from service.inspection.found import Asked
from service.settings import Settings
from service.spec import JobSpec, filled
from service.states import Scope
from workers.training import data, keeper

CSV, PARQUET, NPZ, TEXT = "text/csv", "application/vnd.apache.parquet", "application/x-npz", "text/plain"
FLOWERS = b"width,colour,kind\n1,red,a\n2,blue,b\n3,red,a\n4,blue,b\n"

Speak = Callable[..., httpx.Client]


def put(client: httpx.Client, name: str, content: bytes, kind: str = CSV, **query: str) -> httpx.Response:
    return client.put(f"/v1/datasets/{name}", params=query, content=content, headers={"Content-Type": kind})


def taken(answer: httpx.Response, status: int = 201) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    view: dict[str, Any] = answer.json()
    return view


def problems(answer: httpx.Response, status: int = 422) -> list[tuple[str, str]]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [(each["param"], each["code"]) for each in answer.json().get("errors", ())]


def npz(**given: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **given)
    return file.getvalue()


def stored(settings: Settings, name: str) -> NDArray[Any]:
    """An array of the only data set of the home."""
    (folder,) = settings.datasets_path.iterdir()
    found = arrays.load(folder, name)
    assert found is not None
    return found


def is_clean(settings: Settings) -> bool:
    """Nothing is on its way, and nothing of it is left."""
    return not list(settings.uploads_path.iterdir())


@pytest.fixture
def speak(server: Server, make_token: MakeToken) -> Iterator[Speak]:
    """A client for a user."""
    opened: list[httpx.Client] = []

    def speak(user: str, scope: Scope = Scope.SUBMIT) -> httpx.Client:
        headers = {"Authorization": f"Bearer {make_token(scope, user)}"}
        opened.append(httpx.Client(base_url=server.url, headers=headers, timeout=60))
        return opened[-1]

    yield speak
    for client in opened:
        client.close()


def raw(server: Server, token: str, path: str, *lines: str, body: bytes = b"") -> socket.socket:
    """A connection on which a PUT was begun, word for word."""
    where = urlsplit(server.url)
    connection = socket.create_connection((where.hostname or "", where.port or 0), timeout=30)
    head = [f"PUT {path} HTTP/1.1", f"Host: {where.netloc}", f"Authorization: Bearer {token}", *lines]
    connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
    return connection


def status(connection: socket.socket) -> int:
    with closing(connection):
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status


def test_an_upload_is_a_version_and_the_same_bytes_are_not_another(client: httpx.Client, settings: Settings) -> None:
    answer = put(client, "flowers", FLOWERS, target="kind")
    first = taken(answer)
    assert answer.headers["location"] == "/v1/datasets/flowers@1"
    assert (first["name"], first["version"], first["format"], first["kind"]) == ("flowers", 1, "csv", "table")
    assert (first["sha256"], first["bytes"]) == (sha256(FLOWERS).hexdigest(), len(FLOWERS))
    assert (first["rows"], first["task"], first["target"], first["owner"]) == (4, "classification", "kind", "admin")
    assert first["columns"] == [
        {"name": "width", "type": "number", "missing": 0},
        {"name": "colour", "type": "category", "missing": 0, "values": ["blue", "red"]},
    ]
    assert (first["stored_bytes"] > 0, first["path"], first["copied"]) == (True, None, True)
    np.testing.assert_array_equal(stored(settings, "x"), np.array([[1, 1], [2, 0], [3, 1], [4, 0]], np.float32))
    assert taken(put(client, "flowers", FLOWERS, target="kind"), 200)["version"] == 1
    second = taken(put(client, "flowers", FLOWERS, target="width", task="regression"))
    assert (second["version"], second["task"]) == (2, "regression")

    assert [each["version"] for each in client.get("/v1/datasets/flowers").json()["versions"]] == [2, 1]
    shown = client.get("/v1/datasets/flowers@1").json()
    assert (shown["target"], shown["features"], shown["columns"]) == ("kind", 2, first["columns"])
    assert shown["versions"][1]["columns"][1] == {"name": "colour", "type": "category", "missing": 0}
    assert client.get("/v1/datasets/flowers@3").status_code == 404
    assert [(each["name"], each["version"]) for each in client.get("/v1/datasets").json()["data"]] == [("flowers", 2)]
    assert "flowers,2,table,regression,4,2," in client.get("/v1/datasets?format=csv").text
    assert is_clean(settings)


def test_every_kind_of_file_is_stored_as_arrays(client: httpx.Client, settings: Settings) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2, 3], "label": ["p", "q", "p"]}), file)
    assert taken(put(client, "t", file.getvalue(), PARQUET))["classes"][1] == {"value": 1, "name": "q", "rows": 1}
    assert stored(settings, "x").tolist() == [[1], [2], [3]]
    assert client.delete("/v1/datasets/t").status_code == 204

    pixels = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    images = taken(put(client, "i", npz(x=pixels, y=[0, 1, 0], x_val=pixels[:2], y_val=[1, 1]), NPZ))
    assert (images["kind"], images["shape"], images["rows"], images["validation_rows"]) == ("images", [1, 4, 4], 3, 2)
    np.testing.assert_array_equal(stored(settings, "x_val")[:, 0], pixels[:2])
    assert client.delete("/v1/datasets/i").status_code == 204

    text = taken(put(client, "b", b"any \xff bytes\n", TEXT))
    assert (text["kind"], text["task"], text["rows"], text["target"]) == ("text", "language_modeling", 12, None)
    assert stored(settings, "text").tobytes() == b"any \xff bytes\n"


def test_what_is_wrong_with_a_file_is_told_and_nothing_is_left(client: httpx.Client, settings: Settings) -> None:
    """U08."""
    answer = put(client, "x", b"a,label\n1,p\n2\n")
    assert problems(answer) == [("body", "ragged")]
    assert answer.json()["errors"][0]["message"] == "line 3: 1 values, and there are 2 columns"
    assert problems(put(client, "x", FLOWERS)) == [("target", "missing")]
    assert problems(put(client, "x", FLOWERS, target="none")) == [("target", "unknown_column")]
    assert problems(put(client, "x", npz(x=[[1.0]], y=[1]), NPZ, target="x0")) == [("target", "no_columns")]
    of_text = put(client, "x", b"once upon a time", "text/plain", target="a", task="classification")
    assert problems(of_text) == [("target", "no_columns"), ("task", "no_columns")]
    assert problems(put(client, "x", FLOWERS, task="sorting")) == [("task", "literal_error")]
    assert problems(put(client, "x", FLOWERS, goal="kind")) == [("goal", "unknown_parameter")]
    assert problems(put(client, "x", b"")) == [("body", "empty")]
    assert problems(put(client, "x", npz(x=np.eye(2)), NPZ)) == [("y", "missing")]
    assert client.get("/v1/datasets").json()["data"] == []
    assert is_clean(settings)
    assert not list(settings.datasets_path.iterdir())


@pytest.mark.parametrize(
    "name",
    ["../x", "..%2fx", "%252e%252e%252f", "/etc/passwd", "//etc", "..\\x", "a%00b", ".", "%2e", "a" * 300, "a@1"],
)
def test_a_name_is_never_a_path(server: Server, token: str, settings: Settings, name: str) -> None:
    """U01."""
    before = sorted(settings.home.iterdir())
    for verb in (f"/v1/datasets/{name}", f"/v1/datasets/x/{name}"):
        connection = raw(server, token, verb, "Content-Type: text/csv", f"Content-Length: {len(FLOWERS)}", body=FLOWERS)
        assert status(connection) in (404, 422)
    assert sorted(settings.home.iterdir()) == before
    assert not list(settings.datasets_path.iterdir())


def test_the_child_that_reads_has_little_memory_and_time(serve: Serve, settings: Settings, token: str) -> None:
    """U05."""
    bomb = io.BytesIO()
    np.savez_compressed(bomb, x=np.zeros((10, 1000, 1000), np.float32), y=np.zeros(10))
    lines = b"a,b,c,d,label\n" + b"0.1234567,0.1234567,0.1234567,0.1234567,p\n" * 500_000
    tight = settings.model_copy(update={"inspection_seconds": 1, "inspection_memory_mib": 80})
    server = serve(with_settings=tight)
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        assert problems(put(client, "x", bomb.getvalue(), NPZ)) == [("body", "too_large")]
        (problem,) = problems(put(client, "x", lines))
        assert problem in [("body", "too_slow"), ("body", "too_large"), ("body", "unreadable")]
        large = npz(x=np.zeros((1, 9000, 9000), np.uint8), y=[1.5])
        assert problems(put(client, "x", large, NPZ)) == [("body", "too_large")]
        assert client.get("/v1/datasets").json()["data"] == []
    assert is_clean(settings)


def test_a_pickle_is_refused_and_never_opened(client: httpx.Client, tmp_path: Path) -> None:
    """U09."""
    canary = tmp_path / "canary"

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(canary),)

    content = pickle.dumps(Trap())
    assert put(client, "x", content, "application/octet-stream").status_code == 415
    assert problems(put(client, "x", content, NPZ)) == [("body", "damaged")]
    assert taken(put(client, "x", content, TEXT))["kind"] == "text"
    assert not canary.exists()


def test_a_body_that_is_not_as_long_as_said_or_as_allowed_is_refused(
    serve: Serve, settings: Settings, token: str, patient: Limits
) -> None:
    """U10, R03."""
    small = settings.model_copy(update={"max_upload_mib": 1})
    server = serve(with_settings=small, allowed=replace(patient, body_seconds=0.5))
    kind, path = "Content-Type: text/csv", "/v1/datasets/x"
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"

    connection = raw(server, token, path, kind, "Transfer-Encoding: chunked")
    with suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(40):
            connection.sendall(chunk)
    assert status(connection) == 413
    assert status(raw(server, token, path, kind, "Content-Length: 1048577")) == 413
    assert status(raw(server, token, path, kind, "Content-Length: -1")) == 400
    assert status(raw(server, token, path, kind, "Content-Length: 100", body=FLOWERS[:20])) == 408
    # What stands behind the length is the next request, and none that is known.
    connection = raw(server, token, path, kind, "Content-Length: 20", body=FLOWERS)
    assert status(connection) in (400, 422)
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.get("/v1/datasets").json()["data"] == []
    assert is_clean(settings)


def test_a_client_that_vanishes_leaves_nothing(
    server: Server, client: httpx.Client, token: str, settings: Settings, until: Until
) -> None:
    """U11."""
    head = ("Content-Type: text/csv", "Content-Length: 4000000")
    connection = raw(server, token, "/v1/datasets/x", *head, body=FLOWERS + bytes(2_000_000))
    until(lambda: not is_clean(settings))
    connection.close()
    until(lambda: is_clean(settings))
    assert client.get("/v1/datasets").json()["data"] == []


def test_a_service_that_is_killed_leaves_nothing_after_its_next_start(settings: Settings, until: Until) -> None:
    """U11."""
    environment = os.environ | {"TRAINBOX_HOME": str(settings.home), "TRAINBOX_PORT": "0"}
    log = settings.home.parent / "log"

    def begin() -> subprocess.Popen[bytes]:
        with log.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "service.cli", "api"], env=environment, stderr=file, stdout=file
            )

    def url() -> str:
        until(lambda: b"http://" in log.read_bytes())
        found = f"http://{re.findall(r'http://([0-9.:]+)', log.read_text())[0]}"
        until(lambda: answers(found))
        return found

    def answers(address: str) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{address}/healthz").status_code == 200
        return False

    token = settings.token_path.read_text().strip()
    service = begin()
    try:
        where = urlsplit(url())
        connection = socket.create_connection((where.hostname or "", where.port or 0), timeout=30)
        head = f"PUT /v1/datasets/x HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {token}\r\n"
        connection.sendall(
            f"{head}Content-Type: text/csv\r\nContent-Length: 4000000\r\n\r\n".encode() + bytes(2_000_000)
        )
        until(lambda: any(path.stat().st_size for path in settings.uploads_path.glob("*/source")))
        service.send_signal(signal.SIGKILL)
        service.wait(30)
        connection.close()
        assert not is_clean(settings)
        service = begin()
        assert httpx.get(f"{url()}/v1/datasets", headers={"Authorization": f"Bearer {token}"}).json()["data"] == []
        assert is_clean(settings)
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(30)


def test_clients_that_put_one_name_at_once_get_a_version_each(client: httpx.Client, settings: Settings) -> None:
    """U12."""
    contents = [f"text {number}".encode() for number in range(10)]
    with ThreadPoolExecutor(10) as clients:
        answers = list(clients.map(lambda content: put(client, "x", content, TEXT), contents))
    assert sorted(taken(answer)["version"] for answer in answers) == list(range(1, 11))
    assert {answer.json()["sha256"] for answer in answers} == {sha256(content).hexdigest() for content in contents}
    versions = client.get("/v1/datasets/x").json()["versions"]
    assert [each["version"] for each in versions] == list(range(10, 0, -1))
    assert is_clean(settings)


def test_other_bodies_are_refused_before_they_are_read(client: httpx.Client) -> None:
    """U13."""
    part = b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n'
    for kind, body in (
        ("multipart/form-data; boundary=b", part * 10_000),
        ("multipart/form-data; boundary=b", b"--b\r\nX-Long: " + b"a" * 1_000_000),
        ("multipart/form-data; boundary=b", b"a" * 10_000_000),
        ("application/x-www-form-urlencoded", b"a;" * 500_000),
        ("application/json", b"{}"),
    ):
        began = time.monotonic()
        assert put(client, "x", body, kind).status_code == 415
        assert time.monotonic() - began < 5
    assert client.put("/v1/datasets/x", content=b"").status_code == 415


def test_ten_thousand_ranges_are_of_no_consequence(client: httpx.Client) -> None:
    """U15: the longest that a head may be; it asks for parts of something that is always sent whole."""
    taken(put(client, "x", b"some text", TEXT))
    ranges = "bytes=" + ",".join(["0-"] * 4000)
    assert client.get("/v1/datasets/x", headers={"Range": ranges}).status_code == 200


def test_a_quota_holds_for_each_user(serve: Serve, settings: Settings, make_token: MakeToken) -> None:
    """U16."""
    server = serve(with_settings=settings.model_copy(update={"max_datasets_mib_per_user": 1}))
    text = bytes(700_000)

    def speaking(user: str) -> httpx.Client:
        return httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {make_token(user=user)}"}, timeout=60
        )

    with speaking("ada") as ada, speaking("bob") as bob:
        taken(put(ada, "a", text, TEXT))
        assert problems(put(ada, "b", b"1" + text, TEXT), 507) == []
        chunked = ada.put("/v1/datasets/b", content=iter([text, text]), headers={"Content-Type": TEXT})
        assert chunked.status_code == 507
        # A small file whose arrays are large.
        assert put(ada, "b", b"a,label\n" + b"1,p\n2,q\n" * 30_000).status_code == 507
        taken(put(bob, "b", b"2" + text, TEXT))
        assert ada.delete("/v1/datasets/a").status_code == 204
        taken(put(ada, "c", b"1" + text, TEXT))
    assert is_clean(settings)
    assert len(list(settings.datasets_path.iterdir())) == 2


def test_with_little_disk_nothing_is_taken_in(serve: Serve, settings: Settings, token: str) -> None:
    server = serve(with_settings=settings.model_copy(update={"min_free_mib": 1 << 40}))
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as client:
        answer = put(client, "x", FLOWERS, target="kind")
        assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert is_clean(settings)


def test_only_its_owner_or_an_admin_changes_what_a_name_stands_for(speak: Speak, client: httpx.Client) -> None:
    ada, bob, reader = speak("ada"), speak("bob"), speak("eve", Scope.READ)
    taken(put(ada, "x", b"first", TEXT))
    for refused in (put(bob, "x", b"second", TEXT), bob.delete("/v1/datasets/x"), put(reader, "y", b"mine", TEXT)):
        assert refused.status_code == 403
    assert bob.get("/v1/datasets/x").json()["owner"] == "ada"
    assert taken(put(client, "x", b"second", TEXT))["version"] == 2
    assert ada.delete("/v1/datasets/x").status_code == 204
    assert ada.delete("/v1/datasets/x").status_code == 404


def test_what_comes_with_the_program_stays_as_it_is(admin: httpx.Client) -> None:
    assert put(admin, "digits", b"other", TEXT).status_code == 409
    for reference in ("digits", "digits@1"):
        assert admin.delete(f"/v1/datasets/{reference}").status_code == 409
    shown = admin.get("/v1/datasets/digits").json()
    assert (shown["kind"], shown["shape"], shown["format"], shown["owner"]) == ("table", [64], "npy", None)


def test_a_version_goes_only_when_no_job_needs_it_and_its_number_never_comes_back(
    client: httpx.Client, settings: Settings
) -> None:
    for target in ("kind", "colour"):
        taken(put(client, "flowers", FLOWERS, target=target))
    spec = {"task": "classification", "dataset": "flowers@2", "validation": {"fraction": 0.0}}
    job = submit(client, spec)
    for reference in ("flowers", "flowers@2"):
        answer = client.delete(f"/v1/datasets/{reference}")
        assert (answer.status_code, answer.json()["code"]) == (409, "dataset_in_use")
    assert client.delete("/v1/datasets/flowers@1").status_code == 204
    client.post(f"/v1/jobs/{job['id']}/cancel")
    assert client.delete("/v1/datasets/flowers").status_code == 204
    assert not list(settings.datasets_path.iterdir())
    assert client.get("/v1/datasets/flowers").status_code == 404
    assert client.get(f"/v1/jobs/{job['id']}").json()["spec"]["dataset"] == "flowers@2"
    assert problems(client.post("/v1/jobs", json=spec)) == [("dataset", "unknown_dataset")]
    assert taken(put(client, "flowers", FLOWERS, target="kind"))["version"] == 3


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """A data root."""
    (tmp_path / "yard" / "inner").mkdir(parents=True)
    return tmp_path / "yard"


@pytest.fixture
def rooted(serve: Serve, settings: Settings, token: str, yard: Path) -> Iterator[httpx.Client]:
    server = serve(with_settings=settings.model_copy(update={"data_roots": (yard,)}))
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        yield client


def register(client: httpx.Client, name: str, path: Path, key: str = "", **more: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/datasets", json={"name": name, "path": str(path), **more}, headers=headers)


def test_a_registered_file_is_read_where_it_is(rooted: httpx.Client, settings: Settings, yard: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    path = yard / "inner" / "points.npz"
    path.write_bytes(npz(x=x, y=x[:, 0] > 0))
    view = taken(register(rooted, "points", path, "key"))
    assert (view["path"], view["copied"], view["sha256"]) == (str(path), False, sha256(path.read_bytes()).hexdigest())
    assert taken(register(rooted, "points", path, "key"), 200)["version"] == 1
    assert problems(register(rooted, "others", path, "key")) == [("Idempotency-Key", "reused")]
    assert taken(register(rooted, "points", path), 200)["version"] == 1
    (folder,) = settings.datasets_path.iterdir()
    assert {each.name for each in folder.iterdir()} == {"x.json", "y.npy"}
    np.testing.assert_array_equal(stored(settings, "x"), x)

    # What a trainer does with it.
    spec = filled(JobSpec(task="classification", dataset="points"))
    plan = plans.make(spec, 40)
    source = keeper.Source(str(folder), arrays.digest(folder), 2, "cpu", folder, [])
    assert len(keeper.begin(spec, plan, source).training.train) == 32
    content = path.read_bytes()
    elsewhere = yard / "same"
    elsewhere.write_bytes(content)
    for change in (
        lambda: path.write_bytes(content[:-1] + b"!"),
        lambda: path.write_bytes(b""),
        lambda: path.unlink(),
        lambda: path.symlink_to(elsewhere),
    ):
        change()
        with pytest.raises(data.InputChanged):
            keeper.begin(spec, plan, source)


def test_a_registered_file_of_another_form_is_copied_and_says_so(rooted: httpx.Client, yard: Path) -> None:
    (yard / "flowers.csv").write_bytes(FLOWERS)
    view = taken(register(rooted, "flowers", yard / "flowers.csv", target="kind"))
    assert (view["copied"], view["rows"], view["target"]) == (True, 4, "kind")
    (yard / "novel").write_bytes(b"It was a dark and stormy night.")
    assert problems(register(rooted, "novel", yard / "novel")) == [("format", "missing")]
    assert taken(register(rooted, "novel", yard / "novel", format="text"))["copied"] is False


def test_nothing_but_a_plain_file_below_a_root_is_registered(
    rooted: httpx.Client, settings: Settings, yard: Path, tmp_path: Path
) -> None:
    """U03."""
    secret = tmp_path / "secret.csv"
    secret.write_bytes(FLOWERS)
    beside = tmp_path / "yard-of-others"
    beside.mkdir()
    (beside / "x.csv").write_bytes(FLOWERS)
    (yard / "link.csv").symlink_to(secret)
    (yard / "folder").symlink_to(tmp_path)
    os.link(secret, yard / "hard.csv")
    os.mkfifo(yard / "pipe.csv")
    (yard / "inner.csv").mkdir()
    said = set()
    for path in (
        yard / "link.csv",
        yard / "folder" / "secret.csv",
        yard / "hard.csv",
        yard / "pipe.csv",
        yard / "inner.csv",
        yard / "nothing.csv",
        yard / ".." / "secret.csv",
        beside / "x.csv",
        secret,
        yard,
        Path("/etc/passwd"),
        Path("relative.csv"),
        settings.token_path,
    ):
        answer = register(rooted, "x", path, format="csv")
        assert problems(answer) == [("path", "unknown_file")], path
        said.add(answer.json()["errors"][0]["message"])
    assert len(said) == 1, "whoever asks learns nothing of what lies elsewhere"
    assert not list(settings.datasets_path.iterdir())


def test_without_data_roots_nothing_is_registered(client: httpx.Client, yard: Path) -> None:
    (yard / "x.csv").write_bytes(FLOWERS)
    answer = register(client, "x", yard / "x.csv")
    assert problems(answer) == [("path", "unknown_file")]
    assert "TRAINBOX_DATA_ROOTS" in answer.json()["errors"][0]["hint"]
    assert problems(client.post("/v1/datasets", json={"name": "../x", "file": 1})) == [
        ("name", "string_pattern_mismatch"),
        ("path", "missing"),
        ("file", "unknown_field"),
    ]


def test_an_upload_that_outlasts_the_service_is_told_so(
    serve: Serve, settings: Settings, token: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R06."""
    monkeypatch.setattr(server_module, "GRACEFUL_SECONDS", 1)
    server = serve()
    head = ("Content-Type: text/csv", "Content-Length: 4000000")
    with closing(raw(server, token, "/v1/datasets/x", *head, body=FLOWERS)) as connection:
        until(lambda: not is_clean(settings))
        server.should_exit = True
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
        assert json.loads(answer.read())["code"] == "stopping"
    until(lambda: is_clean(settings))


def test_an_inspection_ends_when_the_service_does(settings: Settings) -> None:
    """R06: nobody waits for a file that is read slowly."""
    asked = Asked("csv", None, None, False, 1 << 30, 1 << 30, 1 << 30, 20)
    with draft(settings) as made:
        made.write(FLOWERS)
        with pytest.raises(Stopping):
            limited.inspect(made.source.fileno(), made.arrays, asked, lambda: True)
    assert is_clean(settings)


def people(rows: int) -> bytes:
    """A table in which two categories and a number, with holes, decide the class."""
    chance = np.random.default_rng(7)
    city, age, noise = chance.integers(0, 3, rows), chance.normal(40, 12, rows), chance.normal(size=rows)
    label = np.where(city == 2, age > 45, age < 35)
    lines = ["city,age,noise,joined,stays"]
    for at in range(rows):
        name = ["Oslo", "Rome", "São Paulo"][city[at]] if at % 50 else ""
        years = f"{age[at]:.3f}" if at % 40 != 7 else ""
        lines.append(f'"{name}",{years},{noise[at]:.4f},2024-03-{at % 28 + 1:02},{"yes" if label[at] else "no"}')
    return "\n".join(lines).encode()


def test_a_table_with_categories_and_empty_cells_is_learned(box: Box) -> None:
    with box.speaking_as("ada") as ada:
        view = taken(put(ada, "people", people(1200), target="stays"))
        assert [column["type"] for column in view["columns"]] == ["category", "number", "number", "date"]
        spec: dict[str, Any] = {"task": "classification", "dataset": "people", "validation": {"fraction": 0.25}}
        spec["hyperparameters"] = {"learning_rate": 0.01, "epochs": 12}
        answer = ada.post("/v1/jobs", json=spec)
        assert problems(answer) == [("data.missing", "missing_values")]
        assert answer.json()["errors"][0]["message"] == "these columns have empty cells: city, age"
        job = submit(ada, spec | {"data": {"missing": "mean"}})
        assert job["spec"]["data"] == {"missing": "mean"}
        assert finish(ada, job)["status"] == "succeeded"
        assert values(ada, job, "val_accuracy")["y"][-1] > 0.88
        run = ada.get(f"/v1/runs/{job['id']}").json()
        assert run["parameters"]["data.missing"] == "mean"
        told_about(ada, job)


def told_about(ada: httpx.Client, job: dict[str, Any]) -> None:
    """The model is asked in the words of the file: dates, empty cells, columns by name."""
    asked = {"city": "Rome", "age": 30, "noise": 0.5, "joined": "2024-03-02"}
    days = (date(2024, 3, 2) - date(1970, 1, 1)).days
    inputs = [asked, asked | {"joined": "2024-03-02T00:00:00+00:00"}, asked | {"joined": days}, ["Rome", 30, 0.5, days]]
    answer = ada.post(f"/v1/jobs/{job['id']}/predictions", json={"inputs": [*inputs, {"age": 30}]})
    first, *same, sparse = answer.json()["data"]
    assert all(each == first for each in same)
    assert sparse != first
    wrong = [asked | {"stays": "yes"}, asked | {"joined": "soon"}, asked | {"city": "Ulm"}, asked | {"city": 3}]
    answer = ada.post(f"/v1/jobs/{job['id']}/predictions", json={"inputs": wrong})
    found = {each["param"]: each["message"] for each in answer.json()["errors"]}
    assert list(found) == ["inputs.0.stays", "inputs.1", "inputs.2", "inputs.3"]
    assert found["inputs.1"] == "the column joined wants a date such as 2026-01-31, or days since 1970"
    assert found["inputs.2"] == "the column city had no such value in training: it has Oslo, Rome, São Paulo"


def test_a_validation_split_of_the_file_is_the_one_that_is_used(box: Box) -> None:
    chance = np.random.default_rng(3)
    x = chance.normal(size=(90, 4))
    y = (x @ [1.0, -2.0, 0.5, 0.0]).astype(np.float32)
    with box.speaking_as("ada") as ada:
        taken(put(ada, "line", npz(x=x[:70], y=y[:70], x_val=x[70:], y_val=y[70:]), NPZ))
        spec = {
            "task": "regression",
            "dataset": "line",
            "model": {"type": "linear"},
            "hyperparameters": {"batch_size": 10},
        }
        job = train(ada, spec | {"validation": {"fraction": 0.0}})
        plan = job["plan"]
        assert (plan["train_samples"], plan["validation_samples"], plan["steps_per_epoch"]) == (70, 20, 7)
        assert job["status"] == "succeeded"
        assert len(values(ada, job, "val_loss")["y"]) == plan["validations"] == 10

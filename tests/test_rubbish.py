"""Whatever is sent to whatever route: it is never a fault of the service, and what is wrong with it has a name."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import shelves
from boxes import submit
from conftest import Serve

from service.api.limits import Limits
from service.database import Database

NESTED = b'{"name":' + b"[" * 40 + b"]" * 40 + b"}"
# What routes read somewhere, so that each meets values of wrong types in fields of its own.
FIELDS = (
    *("name", "kind", "base", "points", "status", "inputs", "user", "scope", "task", "dataset", "model", "members"),
    *("hyperparameters", "visibility", "path", "tags", "parameters", "priority", "grid", "space", "target", "seeds"),
)
VALUES: tuple[Any, ...] = (None, True, -1, 2**63, 1.5, "", [], {}, [{}])
BODIES: tuple[bytes, ...] = (
    *(b"", b"null", b"[]", b"5", b'"x"', b"{}", b"{", b"\xff", b"\xef\xbb\xbf{}", NESTED),
    *(b'{"a":NaN}', b'{"a":1,"a":2}', b'{"name":1e999}', b'{"name":"\\u0000"}', b'{"name":"\\ud800"}'),
    json.dumps({"name": "é" * 5000, "": 1}).encode(),
    *(json.dumps(dict.fromkeys(FIELDS, value)).encode() for value in VALUES),
)
TYPES = ("application/json", "text/html", "application/x-www-form-urlencoded", "multipart/form-data", "x")
WORDS = ("-1", "NaN", "1e400", "9" * 30, "9" * 5000, "é\0", "../%'; drop table jobs;--", "[]", " 1")


@pytest.fixture
def hurried(serve: Serve, database: Database, token: str, patient: Limits) -> Iterator[httpx.Client]:
    """An admin's client who may ask as often as he likes, of a service with a data set and a job that nobody trains."""
    with database.write() as session:
        session.add(shelves.bare())
    server = serve(allowed=replace(patient, requests_per_second=1e6))
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        yield client


def routes(client: httpx.Client) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """(method, path, parameters) as the service describes them."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation.get("parameters", [])


def filled(path: str, word: str) -> str:
    return re.sub("{.*?}", lambda _: quote(word, safe=""), path)


def named(answer: httpx.Response) -> None:
    """An answer that is no success says what is wrong, and in which field."""
    asked = f"{answer.request.method} {str(answer.request.url)[:200]} {answer.request.content[:100]!r}: {answer.text}"
    assert answer.status_code < 500 or answer.status_code == 503, asked
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", asked
    if answer.status_code == 422:
        assert all(each["param"] and each["message"] for each in answer.json()["errors"]), asked


def test_no_body_is_a_fault_of_the_service(hurried: httpx.Client) -> None:
    job = submit(hurried, {"task": "classification", "dataset": "rows"})["id"]
    for method, path, _ in list(routes(hurried)):
        if method in ("POST", "PUT", "PATCH"):
            for body in BODIES:
                named(hurried.request(method, filled(path, job), content=body, headers={"Content-Type": TYPES[0]}))
            for kind in TYPES:
                named(hurried.request(method, filled(path, job), content=b"{}", headers={"Content-Type": kind}))


def test_no_word_in_a_path_a_query_or_a_header_is_a_fault_of_the_service(hurried: httpx.Client) -> None:
    job = submit(hurried, {"task": "classification", "dataset": "rows"})["id"]
    for method, path, parameters in list(routes(hurried)):
        body: dict[str, Any] = {} if method in ("GET", "DELETE") else {"json": {}}
        for word in WORDS:
            if "{" in path:
                named(hurried.request(method, filled(path, word), **body))
            if method == "DELETE":
                continue
            for each in parameters:
                if each["name"] == "wait" and word.strip() in ("1", "1.0"):
                    continue  # it would
                given = {name["name"]: "loss" for name in parameters if name["in"] == "query" and name.get("required")}
                where = f"{filled(path, job)}"
                if each["in"] == "query":
                    named(hurried.request(method, where, params=given | {each["name"]: word}, **body))
                elif each["in"] == "header" and word == word.strip(" \0"):
                    named(hurried.request(method, where, params=given, headers={each["name"]: word.encode()}, **body))

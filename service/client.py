"""A client of the service's HTTP interface: one method a call, answers as plain JSON values or as text."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx

from service.errors import FieldProblem

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 2.0
COME_BACK_LATER = (429, 503)
JSON = {"Content-Type": "application/json"}
UPLOAD_TIMEOUT = httpx.Timeout(30, read=600)  # the service reads the whole file before it answers


class Problem(Exception):
    """The service answered with an error; `errors` names every wrong field of an input."""

    def __init__(self, status: int, title: str, detail: str, errors: Sequence[FieldProblem] = ()) -> None:
        super().__init__(detail or title)
        self.status, self.title, self.detail, self.errors = status, title, detail, list(errors)


class Unreachable(Exception):
    """Nobody answered at the address."""

    def __init__(self, url: str, cause: Exception) -> None:
        super().__init__(f"no answer from {url}: {cause}")
        self.url = url


class Client:
    """One connection to the service, for one user's token.

    Every request can be sent again without harm: what creates something carries an Idempotency-Key. So a request
    that met nobody, or a service that is busy, is repeated until `patience_seconds` are over. For its answer
    each waits `answer_seconds` at most.
    """

    def __init__(
        self, url: str, token: str | None, *, patience_seconds: float = 1.0, answer_seconds: float = 90.0
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience_seconds
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(min(10.0, answer_seconds), read=answer_seconds),
            trust_env=not is_loopback(url),  # a proxy of the environment does not know this machine's own addresses
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """A JSON answer. Parameters that are None are left out; lists are repeated."""
        return self._request("GET", path, query).json()

    def text(self, path: str, **query: Any) -> str:
        """The same as `get` in another format: `format="text"` or `"csv"`."""
        return self._request("GET", path, query).text

    def content(self, path: str, **query: Any) -> bytes:
        """The same as `get` for a picture or a file: `format="png"`, `"svg"` or `"parquet"`."""
        return self._request("GET", path, query).content

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        return self._request("POST", path, query, body).json()

    def put(self, path: str, content: Iterable[bytes], size: int, media_type: str, **query: Any) -> Any:
        """Sends `size` bytes, once: what has been read cannot be sent again. Raises Problem or Unreachable."""
        headers = {"Content-Type": media_type, "Content-Length": str(size)}
        given = {name: value for name, value in query.items() if value is not None}
        try:
            answer = self._http.put(path, params=given, content=content, headers=headers, timeout=UPLOAD_TIMEOUT)
        except httpx.TransportError as error:
            raise Unreachable(self.url, error) from error
        if answer.is_success:
            return answer.json()
        raise problem(answer)

    def patch(self, path: str, body: Any) -> Any:
        return self._request("PATCH", path, {}, body).json()

    def delete(self, path: str) -> None:
        self._request("DELETE", path, {})

    def pages(self, path: str, *, after: Any = None, **query: Any) -> Iterator[dict[str, Any]]:
        """All entries of a list behind the one called `after`, page by page."""
        while True:
            answer = self.get(path, after=after, **query)
            yield from answer["data"]
            if not answer["has_more"]:
                return
            after = answer["next_after"]

    def submit(self, spec: Any, *, dry_run: bool = False, probe: bool = False) -> dict[str, Any]:
        """The new job; with dry_run its `spec, plan, warnings` and no job, and with probe what a few steps cost."""
        asked = {name: "true" for name, wanted in (("dry_run", dry_run), ("probe", probe)) if wanted}
        answer: dict[str, Any] = self.post("/v1/jobs", spec, **asked)
        return answer

    def job(self, job_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.get(f"/v1/jobs/{quote(job_id, '')}")
        return answer

    def run(self, run_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.get(f"/v1/runs/{quote(run_id, '')}")
        return answer

    def logs(self, job_id: str, offset: int, attempt: int | None = None) -> tuple[bytes, int]:
        """The log of an attempt, by default the newest, from a byte offset; and the offset to ask for next."""
        query = {"offset": offset, "attempt": attempt}
        answer = self._request("GET", f"/v1/jobs/{quote(job_id, '')}/logs", query)
        return answer.content, int(answer.headers["X-Next-Offset"])

    def _request(self, method: str, path: str, query: Mapping[str, Any], body: Any = None) -> httpx.Response:
        headers = {} if body is None else dict(JSON)
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid4())
        request = self._http.build_request(
            method,
            path,
            params={name: value for name, value in query.items() if value is not None},
            # Not httpx's own writer: it raises at NaN, where the service says which field holds it.
            content=None if body is None else json.dumps(body),
            headers=headers,
        )
        answer = self._send(request)
        if answer.is_success:
            return answer
        raise problem(answer)

    def _send(self, request: httpx.Request) -> httpx.Response:
        end = time.monotonic() + self._patience
        delay = FIRST_DELAY_SECONDS
        while True:
            late = time.monotonic() + delay > end
            try:
                answer = self._http.send(request)
            except httpx.TransportError as error:
                if late:
                    raise Unreachable(self.url, error) from error
            else:
                if late or answer.status_code not in COME_BACK_LATER:
                    return answer
            time.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)


def problem(answer: httpx.Response) -> Problem:
    """An error answer as an exception, also when something between here and the service wrote it."""
    try:
        body = answer.json()
        errors = [
            FieldProblem(each["param"], each["code"], each["message"], each.get("hint"))
            for each in body.get("errors") or ()
        ]
        return Problem(answer.status_code, body["title"], body.get("detail") or "", errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Problem(answer.status_code, answer.reason_phrase, f"the answer was {answer.status_code} and no JSON")


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

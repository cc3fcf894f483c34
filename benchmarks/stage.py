"""A real service, or a part of it, on a home of its own for as long as a benchmark lasts."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from service import home
from service.settings import Settings

START_SECONDS = 60.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.01


class Answer(Exception):
    """Another answer than the one that the benchmark needs."""

    def __init__(self, path: str, status: int, body: bytes) -> None:
        super().__init__(f"{path} answered {status}: {body[:500].decode(errors='replace')}")
        self.status = status


@dataclass(frozen=True)
class Service:
    """A process that answers at a port of this machine. token: of an admin, or empty where none is asked for."""

    port: int
    token: str
    process: subprocess.Popen[bytes]
    connection: http.client.HTTPConnection

    def ask(self, method: str, path: str, content: bytes | None = None) -> bytes:
        """The answer's body, over a connection that stays open. Raises Answer unless the status is 2xx.

        content: JSON.
        """
        headers = {"Authorization": f"Bearer {self.token}"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        self.connection.request(method, path, content, headers)
        answer = self.connection.getresponse()
        answered = answer.read()
        if not 200 <= answer.status < 300:
            raise Answer(path, answer.status, answered)
        return answered

    def get(self, path: str) -> Any:
        return json.loads(self.ask("GET", path))

    def post(self, path: str, body: Any) -> Any:
        return json.loads(self.ask("POST", path, json.dumps(body).encode()))

    def apart(self) -> "Service":
        """The same over another connection."""
        return replace(self, connection=http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS))

    def processes(self) -> list[psutil.Process]:
        """The process and all that it has started and that still live."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]


@dataclass(frozen=True)
class Calls:
    """What one client posts, one body after another. points: how many each body holds.

    The bodies are JSON already: to write them is the client's own work, and the same for every server.
    """

    service: Service
    path: str
    bodies: list[bytes]
    points: int

    def made(self) -> int:
        """How many points were taken; a body that is refused counts for none."""
        # A server may have given up the connection while the other clients got ready.
        self.service.connection.close()
        taken = 0
        for body in self.bodies:
            with suppress(Answer):
                self.service.ask("POST", self.path, body)
                taken += self.points
        self.service.connection.close()
        return taken


def rate(clients: list[Calls]) -> float:
    """Points taken a second, from all clients at once."""
    with ThreadPoolExecutor(len(clients)) as threads:
        begin = time.perf_counter()
        taken = sum(threads.map(Calls.made, clients))
        return taken / (time.perf_counter() - begin)


@contextmanager
def furnished() -> Iterator[Settings]:
    """The settings of a home after its first start. It is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="trainbox-bench-") as folder:
        settings = Settings(home=Path(folder), host="127.0.0.1")
        home.prepare(settings)
        yield settings


@contextmanager
def running(settings: Settings, part: str = "serve", **more: str) -> Iterator[Service]:
    """`trainbox serve`, or `trainbox api` alone, once it is ready. more: variables of the environment."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINBOX_")}
    environment |= {
        "TRAINBOX_HOME": str(settings.home),
        "TRAINBOX_PORT": str(port),
        "TRAINBOX_REQUESTS_PER_SECOND": "1000000",
    }
    environment |= more
    command = [sys.executable, "-m", "service.cli", part]
    token = settings.token_path.read_text().strip()
    ready = "/readyz" if part == "serve" else "/healthz"
    with process(command, settings.home / "bench.log", environment) as started:
        yield answering(port, token, started, ready)


@contextmanager
def process(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped at the end, in order if it can be."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def answering(
    port: int, token: str, started: subprocess.Popen[bytes], path: str, within: float = START_SECONDS
) -> Service:
    """The process as a service, as soon as the path answers. Raises TimeoutError when it never does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    service = Service(port, token, started, connection)
    end = time.monotonic() + within
    while time.monotonic() < end and started.poll() is None:
        with suppress(OSError, http.client.HTTPException, Answer):
            service.ask("GET", path)
            return service
        connection.close()
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"{started.args!r} does not answer at {path}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])

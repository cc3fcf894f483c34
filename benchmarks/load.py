"""A client that asks the same again and again over several connections, in a process of its own.

`python -m benchmarks.load PORT PATH TOKEN CONNECTIONS SECONDS` prints what it saw as JSON. It does as little as can be:
what it takes of the machine is taken from the server.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass

import uvloop

WARM_UP_SECONDS = 0.3
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length: "


@dataclass(frozen=True)
class Load:
    """Requests answered in so many seconds, and the time that 99 of 100 of them did not exceed."""

    requests: int
    seconds: float
    p99_seconds: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Asker(asyncio.Protocol):
    """One connection: the next request leaves when the answer to the last one is complete."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._answer = b""
        self._asked = 0.0
        self.answered: list[tuple[float, float]] = []  # when, and after how long
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer = self._answer + data if self._answer else data
        head = self._answer.find(END_OF_HEAD)
        if head < 0:
            return
        start = self._answer.index(LENGTH, 0, head) + len(LENGTH)
        length = int(self._answer[start : self._answer.index(b"\r\n", start)])
        if len(self._answer) < head + len(END_OF_HEAD) + length:
            return
        now = time.perf_counter()
        if not self._answer.startswith(b"HTTP/1.1 200 "):
            self.done.set_exception(RuntimeError(self._answer[:500].decode(errors="replace")))
            return
        self.answered.append((now, now - self._asked))
        self._answer = b""
        self.ask()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionResetError("the server closed the connection"))

    def close(self) -> None:
        self.done.cancel()
        self._transport.abort()


async def ask(port: int, path: str, token: str, connections: int, seconds: float) -> Load:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    askers = [(await loop.create_connection(lambda: Asker(request), "127.0.0.1", port))[1] for _ in range(connections)]
    for asker in askers:
        asker.ask()
    begin = time.perf_counter() + WARM_UP_SECONDS
    await asyncio.wait([asker.done for asker in askers], timeout=WARM_UP_SECONDS + seconds)
    for asker in askers:
        if asker.done.done():
            await asker.done
        asker.close()
    times = sorted(taken for asker in askers for at, taken in asker.answered if at > begin)
    return Load(len(times), seconds, times[int(0.99 * len(times))])


def put(port: int, path: str, token: str, connections: int, seconds: float) -> Load:
    """The same from another process."""
    arguments = [str(port), path, token, str(connections), str(seconds)]
    command = [sys.executable, "-m", "benchmarks.load", *arguments]
    done = subprocess.run(command, capture_output=True, check=True, timeout=seconds + 60)
    return Load(**json.loads(done.stdout))


def main() -> None:
    port, path, token, connections, seconds = sys.argv[1:]
    seen = uvloop.run(ask(int(port), path, token, int(connections), float(seconds)))
    print(json.dumps({"requests": seen.requests, "seconds": seen.seconds, "p99_seconds": seen.p99_seconds}))


if __name__ == "__main__":
    main()

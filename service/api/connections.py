"""One client's connection, held to time and size before any request of it is complete.

uvicorn has no limits here: without these a client that says nothing keeps its place for ever.
"""

import asyncio
from secrets import token_hex
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api import problems
from service.api.gate import ON_EVERY_ANSWER
from service.api.limits import Limits


class HeadTooLarge(Exception):
    """Raised to the parser, which then reads no further."""


class Connection(HttpToolsProtocol):
    """Closes itself when a request's head comes too slowly or is too large, or when an answer is not taken.

    When there are too many, the one that has waited the longest without a request makes room.
    """

    limits = Limits()

    def __init__(self, config: uvicorn.Config, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._deadline: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        # When the client was last due to ask something; None while it is being answered.
        self._idle_since: float | None = None
        self._heads = 0
        self._reading_body = False
        self._head_bytes = 0
        self._unfinished_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections and not self._make_room():
            self._refuse(503, "too_many_connections", "the service has all the connections that it can hold")
            return
        self._wait(self.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go()
        self._idle_since = None
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        in_head, heads = not self._reading_body, self._heads
        super().data_received(data)
        if self._heads != heads:
            self._unfinished_bytes = 0
        elif in_head and not self.transport.is_closing():
            # The parser holds back a header until it is complete.
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > self.limits.head_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._wait(self.limits.head_seconds)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        self._let_go()
        self._idle_since = None
        self._heads += 1
        self._reading_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._reading_body = False
        super().on_message_complete()
        if self.cycle.response_complete:
            self._wait(self.limits.head_seconds)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() or not self.cycle.response_complete:
            return
        if self._reading_body:
            # Closing now would reset the connection, and the client might never read the answer.
            self._end_in(self.limits.unread_seconds)
        else:
            self._idle_since = self.loop.time()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def send_400_response(self, _msg: str) -> None:
        if self._head_bytes > self.limits.head_bytes:
            self._refuse_head()
        else:
            self._refuse(400, "malformed_request", "this is not a valid HTTP request")

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.limits.head_bytes:
            raise HeadTooLarge

    def _wait(self, seconds: float) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._idle_since = self.loop.time()
        self._end_in(seconds)

    def _end_in(self, seconds: float) -> None:
        self._let_go()
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _let_go(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _make_room(self) -> bool:
        waiting = [
            (other._idle_since, id(other), other)
            for other in self.connections
            if isinstance(other, Connection) and other is not self and other._idle_since is not None
        ]
        if not waiting:
            return False
        oldest = min(waiting)[2]
        self.connections.discard(oldest)
        oldest._idle_since = None
        oldest.transport.abort()
        return True

    def _refuse_head(self) -> None:
        self._refuse(431, "head_too_large", f"the head of a request may have {self.limits.head_bytes} bytes")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answers without the application, and closes."""
        self._let_go()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        request_id = token_hex(8)
        body = orjson.dumps(problems.document(status, code, detail, request_id))
        headers = [
            *self.server_state.default_headers,
            *ON_EVERY_ANSWER,
            (b"x-request-id", request_id.encode()),
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [STATUS_LINE[status], *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n", body]
        self.transport.write(b"".join(lines))
        self.transport.close()

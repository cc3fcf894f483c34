"""Answers that go on while something happens: looked up anew when the reader takes more, and never queued."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from time import monotonic

from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from service import users
from service.api.place import Place
from service.api.problems import Refusal
from service.errors import NotFound
from service.users import Principal

STREAMS_PER_TOKEN = 8
LOOK_SECONDS = 0.3  # between two looks, however often the database changes
IDLE_SECONDS = 1.0  # between two looks when nothing changes: the token may have ended, or the service be stopping
ALIVE_SECONDS = 15.0
RETRY_SECONDS = 5


@dataclass(frozen=True)
class Look:
    """What a look found: bytes to send, whether more can be had at once, and whether nothing will ever follow."""

    content: bytes
    more: bool
    over: bool


@dataclass(frozen=True)
class Manners:
    """What a stream says for itself: now and then, so that the line stays alive, and when the service stops."""

    alive: bytes
    farewell: bytes


class Stream(StreamingResponse):
    """Sends what `look` finds until it is over, the reader leaves, the token ends or the service stops.

    A reader who takes nothing keeps no more than one look's bytes waiting; the connection cuts him in the end.
    """

    def __init__(
        self, here: Place, principal: Principal, look: Callable[[Session], Look], manners: Manners, media_type: str
    ) -> None:
        self._parts = _parts(here, principal, look, manners)
        self._here, self._principal = here, principal
        # A proxy that gathers answers would hold back what is news.
        super().__init__(self._parts, headers={"X-Accel-Buffering": "no"}, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Refusal, before anything is sent, when the token has as many streams as it may."""
        with _counted(self._here, self._principal):
            async with aclosing(self._parts):
                await super().__call__(scope, receive, send)

    async def listen_for_disconnect(self, receive: Receive) -> None:
        with suppress(Refusal):  # of a body, which no route reads: too late to say so
            await super().listen_for_disconnect(receive)


@contextmanager
def _counted(here: Place, principal: Principal) -> Iterator[None]:
    streams, token = here.streams, principal.token_id
    if streams[token] >= STREAMS_PER_TOKEN:
        detail = f"this token has {STREAMS_PER_TOKEN} streams open, the most allowed: end one of them first"
        raise Refusal(429, "too_many_streams", detail, {"Retry-After": str(RETRY_SECONDS)})
    streams[token] += 1
    try:
        yield
    finally:
        streams[token] -= 1
        if not streams[token]:
            del streams[token]


async def _parts(
    here: Place, principal: Principal, look: Callable[[Session], Look], manners: Manners
) -> AsyncGenerator[bytes, None]:
    told_at = monotonic()
    while not here.stopping.is_set():
        # Waiting begins before the look: a commit that comes between the two would be missed otherwise.
        changed = asyncio.create_task(here.commits.next(IDLE_SECONDS))
        try:
            found = await run_in_threadpool(_allowed_look, here, principal, look)
            if found is None:
                return
            content = found.content or (manners.alive if monotonic() - told_at >= ALIVE_SECONDS else b"")
            if content:
                yield content
                told_at = monotonic()
            if found.over:
                return
            if not found.more:
                await asyncio.sleep(LOOK_SECONDS)
                await changed
        finally:
            changed.cancel()
    yield manners.farewell


def _allowed_look(here: Place, principal: Principal, look: Callable[[Session], Look]) -> Look | None:
    """None when the token is no longer valid, or there is nothing more to see for its user."""
    with here.database.read() as session, suppress(NotFound):
        if users.is_valid(session, principal.token_id):
            return look(session)
    return None

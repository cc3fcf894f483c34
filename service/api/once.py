"""A request that a client may send twice: its Idempotency-Key, and what that made the first time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from sqlalchemy.orm import Session

from service import idempotency
from service.api.access import Reader
from service.errors import MadeAndGone, NotFound

Key = Annotated[
    str | None,
    Header(
        alias=idempotency.PARAM,
        description="any text of your own, new for each thing to make; sent again within 24 hours with the same "
        "body it makes nothing new and answers what was made the first time",
    ),
]


@dataclass(frozen=True)
class Once:
    """Both methods belong into the transaction that creates; without a key they do nothing."""

    user: str
    key: str | None
    digest: bytes

    def earlier(self, session: Session) -> str | None:
        """The id of what this request made before. Raises KeyReused if the key was for another request."""
        return self.key and idempotency.remembered(session, self.user, self.key, self.digest)

    def remember(self, session: Session, resource: str) -> None:
        if self.key is not None:
            idempotency.remember(session, self.user, self.key, self.digest, resource)


@contextmanager
def still_there(again: bool) -> Iterator[None]:
    """Around the look at what a request has made. Raises MadeAndGone if that was earlier, and it is gone."""
    try:
        yield
    except NotFound:
        if again:
            raise MadeAndGone from None
        raise


async def once(request: Request, principal: Reader, key: Key = None) -> Once:
    if key is None:
        return Once(principal.user, None, b"")
    idempotency.require_valid(key)
    digest = idempotency.digest(request.method, request.scope["path"], await request.body())
    return Once(principal.user, key, digest)


Repeatable = Annotated[Once, Depends(once)]

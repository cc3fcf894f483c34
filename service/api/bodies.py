"""What the body of a request may be, and how long it may take to come."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic

from starlette.types import Message, Receive, Scope

from service.api.limits import Limits
from service.api.problems import Refusal

JSON_TYPES = frozenset({b"application/json", b"application/merge-patch+json"})


@dataclass(frozen=True)
class Upload:
    """A route that takes other bytes than JSON, or more of them. All others take JSON alone."""

    method: str
    path: re.Pattern[str]
    media_types: frozenset[bytes]
    most_bytes: int


def checked(
    headers: dict[bytes, bytes], scope: Scope, receive: Receive, uploads: Iterable[Upload], limits: Limits
) -> Receive:
    """Where the body is to be read from. Raises Refusal for one that need not be read to be refused."""
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(415, "encoded_body", "bodies are taken as they are, without Content-Encoding")
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or (coding is not None and coding.lower() != b"chunked"):
        raise Refusal(400, "malformed_request", "the length of the body is not told in a way that is known here")
    if coding is None and int(length) == 0:
        return receive
    types, most = JSON_TYPES, limits.body_bytes
    for upload in uploads:
        if upload.method == scope["method"] and upload.path.fullmatch(scope["path"]):
            types, most = upload.media_types, upload.most_bytes
    _check_type(headers.get(b"content-type", b""), types)
    if int(length) > most:
        raise _too_large(most)
    return Body(receive, most, limits).receive


class Body:
    """Counts the bytes of one request's body as they are read, and the time that they take to come."""

    def __init__(self, receive: Receive, most: int, limits: Limits) -> None:
        self._receive, self._most, self._limits = receive, most, limits
        self._began = monotonic()
        self._bytes = 0
        self._complete = False

    async def receive(self) -> Message:
        """Raises Refusal when the body is too large or comes too slowly."""
        if self._complete:
            return await self._receive()
        earned = self._bytes / self._limits.body_bytes_per_second
        left = self._began + self._limits.body_seconds + earned - monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(left, self._limits.body_seconds))):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, "slow_body", "the body did not come in time", {"Connection": "close"}) from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most:
            raise _too_large(self._most)
        self._complete = not message.get("more_body", False)
        return message


def _check_type(given: bytes, accepted: frozenset[bytes]) -> None:
    kind, _, parameters = given.partition(b";")
    charset = re.search(rb"charset\s*=\s*\"?([^\s;\"]*)", parameters, re.IGNORECASE)
    if kind.strip().lower() not in accepted or (charset and charset[1].lower() not in (b"utf-8", b"utf8")):
        wanted = " or ".join(sorted(known.decode() for known in accepted))
        raise Refusal(415, "unsupported_media_type", f"the body must be {wanted}, and its Content-Type must say so")


def _too_large(most: int) -> Refusal:
    return Refusal(413, "body_too_large", f"the body may have {most} bytes")

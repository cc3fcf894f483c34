"""How an answer travels: not at all when the client has it already, and packed when it is large."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.responses import StreamingResponse

from service import __version__

LARGE = 256 << 10  # bytes; to pack less takes longer than to send it over a cable
LEVEL = 3  # of zlib: half the time of its default, and almost as small
GZIP = 16 + zlib.MAX_WBITS
VARIES = {"Vary": "Accept, Accept-Encoding"}


@dataclass(frozen=True)
class Delivery:
    """What the client says of the answer: what was asked, what it has already, whether it unpacks gzip."""

    asked: str
    has: frozenset[str]
    unpacks: bool

    def tag(self, *facts: Any) -> str:
        """The ETag of an answer that these facts and the request determine. Weak: packed and not, it is the same."""
        return f'W/"{sha256(repr((__version__, self.asked, facts)).encode()).hexdigest()[:32]}"'

    def unchanged(self, tag: str | None) -> Response | None:
        """304 when the client has this very answer."""
        if tag is None or not self.has & {tag, "*"}:
            return None
        return Response(status_code=304, headers=_headers(tag))

    def send(self, answer: Response, tag: str | None = None) -> Response:
        """The answer with its tag, packed if that is worth it."""
        answer.headers.update(_headers(tag))
        if self.unpacks and len(answer.body) >= LARGE and answer.media_type not in PACKED:
            packer = zlib.compressobj(LEVEL, wbits=GZIP)
            answer.body = packer.compress(answer.body) + packer.flush()
            answer.headers["Content-Encoding"] = "gzip"
            answer.headers["Content-Length"] = str(len(answer.body))
        return answer

    def stream(self, parts: Iterable[bytes], media_type: str, tag: str | None = None) -> Response:
        """The same for an answer of any length, of which only a part is in memory at a time."""
        answer = StreamingResponse(_packed(parts) if self.unpacks else parts, media_type=media_type)
        answer.headers.update(_headers(tag))
        if self.unpacks:
            answer.headers["Content-Encoding"] = "gzip"
        return answer


PACKED = frozenset({"image/png", "application/vnd.apache.parquet"})


def _headers(tag: str | None) -> dict[str, str]:
    # What may change is not kept; what is kept is asked about each time, since a token may have been revoked.
    return VARIES if tag is None else {**VARIES, "ETag": tag, "Cache-Control": "private, no-cache"}


def _packed(parts: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(LEVEL, wbits=GZIP)
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()


async def delivery(request: Request) -> Delivery:
    headers = request.headers
    given = frozenset(part.strip() for part in headers.get("if-none-match", "").split(",") if part.strip())
    url = f"{request.scope['path']}?{request.scope['query_string'].decode('latin-1')}"
    return Delivery(f"{url} {headers.get('accept', '')}", given, _takes_gzip(headers.get("accept-encoding", "")))


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() in ("gzip", "*"):
            return quality.strip() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


Delivered = Annotated[Delivery, Depends(delivery)]

"""What a client's Idempotency-Key made the first time, so that a repeated request makes nothing new."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

from sqlalchemy import delete
from sqlalchemy.orm import Session

from service import clock
from service.errors import FieldProblem, InvalidInput, KeyReused
from service.tables import IdempotencyKey

LIFETIME = timedelta(hours=24)
LONGEST_KEY = 255
PARAM = "Idempotency-Key"


def digest(method: str, path: str, body: bytes) -> bytes:
    """What must be the same for two requests to be the same: NUL cannot occur in the first two."""
    return sha256(b"\0".join((method.encode(), path.encode("utf-8", "surrogateescape"), body))).digest()


def require_valid(key: str) -> None:
    """Raises InvalidInput unless the key is 1 to 255 visible ASCII characters."""
    if not 0 < len(key) <= LONGEST_KEY or not all("!" <= character <= "~" for character in key):
        message = f"must be 1 to {LONGEST_KEY} visible ASCII characters"
        raise InvalidInput([FieldProblem(PARAM, "invalid_key", message)])


def remembered(session: Session, user: str, key: str, request_digest: bytes) -> str | None:
    """The id of what the key made within 24 hours, or None. Raises KeyReused if it was for another request.

    Asked in the transaction that creates: of requests at the same time only the first finds None.
    """
    row = session.get(IdempotencyKey, (user, key))
    if row is None or row.created_at <= _oldest():
        return None
    if row.request_digest != request_digest:
        raise KeyReused(PARAM)
    return row.resource


def remember(session: Session, user: str, key: str, request_digest: bytes, resource: str) -> None:
    """Notes what the key made, in the transaction that made it; forgets what is too old, of all users."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at <= _oldest()))
    session.add(
        IdempotencyKey(user=user, key=key, request_digest=request_digest, resource=resource, created_at=clock.now())
    )
    session.flush()


def _oldest() -> str:
    return clock.rfc3339(datetime.now(UTC) - LIFETIME)

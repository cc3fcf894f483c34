"""Users, the tokens that speak for them, and who a request comes from. It knows no HTTP."""

import hmac
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import exists, or_, select, update
from sqlalchemy.orm import Session

from service import clock
from service.database import Database
from service.errors import AlreadyExists, FieldProblem, InvalidInput, NotFound, ServiceError
from service.ids import new_id
from service.states import Scope
from service.tables import Token, User

TOKEN_FORM = re.compile(r"tbx_([a-z0-9-]{8,36})_[0-9a-f]{64}")
FIRST_ADMIN = "admin"

# One statement for the driver itself: this runs at every request, and the ORM would cost more than all the rest.
ACCEPTED = """
    SELECT tokens.digest, tokens."user", tokens.scope, tokens.expires_at
    FROM tokens JOIN users ON users.name = tokens."user"
    WHERE tokens.id = ? AND tokens.revoked_at IS NULL AND users.removed_at IS NULL
"""


class LastAdmin(ServiceError):
    """Refused because nobody could administer the service afterwards."""

    def __init__(self) -> None:
        super().__init__("this would leave no valid token with the scope admin: create another one first")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what the token that was shown may do."""

    user: str
    scope: Scope
    token_id: str


def authenticate(connection: Any, text: str) -> Principal | None:
    """Whom a token speaks for; None for one that is malformed, unknown, expired, revoked, or of a removed user.

    connection: of the database driver, outside any transaction, used by one thread at a time.
    """
    form = TOKEN_FORM.fullmatch(text)
    if form is None:
        return None
    # All rows are fetched: a statement that could still go on would keep its view of the database open.
    for digest, user, scope, expires_at in connection.execute(ACCEPTED, (form[1],)).fetchall():
        if hmac.compare_digest(digest, digest_of(text)) and (expires_at is None or expires_at > clock.now()):
            return Principal(user, Scope(scope), form[1])
    return None


def is_valid(session: Session, token_id: str) -> bool:
    """Whether a token that was accepted earlier still is: what lasts longer than a request asks now and then."""
    return bool(session.scalar(select(exists().where(Token.id == token_id, _is_live()))))


def digest_of(text: str) -> bytes:
    """A plain hash is enough for 256 random bits: there is nothing to guess."""
    return sha256(text.encode()).digest()


def create(session: Session, name: str) -> User:
    """Raises AlreadyExists, also for the name of a user who has left."""
    if (known := session.get(User, name)) is not None:
        raise AlreadyExists("user", gone=known.removed_at is not None)
    user = User(name=name, created_at=clock.now())
    session.add(user)
    session.flush()
    return user


def user(session: Session, name: str) -> User:
    """Also one who has left. Raises NotFound."""
    found = session.get(User, name)
    if found is None:
        raise NotFound("user")
    return found


def page(session: Session, after: str | None, limit: int) -> list[User]:
    """Users who have not left, by name."""
    query = select(User).where(User.removed_at.is_(None)).order_by(User.name).limit(limit)
    if after is not None:
        query = query.where(User.name > after)
    return list(session.scalars(query))


def remove(session: Session, name: str) -> None:
    """From now on no token of the user is valid; what the user made stays. Raises NotFound or LastAdmin."""
    if not is_user(session, name):
        raise NotFound("user")
    _require_other_admin(session, Token.user != name)
    session.execute(update(User).where(User.name == name).values(removed_at=clock.now()))


def is_user(session: Session, name: str) -> bool:
    return bool(session.scalar(select(exists().where(User.name == name, User.removed_at.is_(None)))))


def create_token(
    session: Session, user: str, name: str, scope: Scope, expires_at: datetime | None = None
) -> tuple[Token, str]:
    """The token's row, and its text, which is not kept. Raises InvalidInput for an unknown user."""
    if not is_user(session, user):
        raise InvalidInput([FieldProblem("user", "unknown_user", "there is no such user")])
    token_id = new_id()
    text = f"tbx_{token_id}_{secrets.token_hex(32)}"
    token = Token(
        id=token_id,
        user=user,
        name=name,
        digest=digest_of(text),
        scope=scope,
        created_at=clock.now(),
        expires_at=None if expires_at is None else clock.rfc3339(expires_at),
    )
    session.add(token)
    session.flush()
    return token, text


def token(session: Session, token_id: str) -> Token:
    """Raises NotFound."""
    found = session.get(Token, token_id)
    if found is None:
        raise NotFound("token")
    return found


def token_page(session: Session, after: str | None, limit: int) -> list[Token]:
    """All tokens, the newest first, those that have ended among them."""
    query = select(Token).order_by(Token.id.desc()).limit(limit)
    if after is not None:
        query = query.where(Token.id < after)
    return list(session.scalars(query))


def revoke(session: Session, token_id: str) -> None:
    """From the commit on the token opens nothing. Raises NotFound, also for a revoked one, or LastAdmin."""
    if token(session, token_id).revoked_at is not None:
        raise NotFound("token")
    _require_other_admin(session, Token.id != token_id)
    session.execute(update(Token).where(Token.id == token_id).values(revoked_at=clock.now()))


def seconds_from_now(seconds: int) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _is_live() -> Any:
    present = exists().where(User.name == Token.user, User.removed_at.is_(None))
    unexpired = or_(Token.expires_at.is_(None), Token.expires_at > clock.now())
    return Token.revoked_at.is_(None) & unexpired & present


def _require_other_admin(session: Session, others: Any) -> None:
    if not session.scalar(select(exists().where(Token.scope == Scope.ADMIN, _is_live(), others))):
        raise LastAdmin


def ensure_admin(database: Database, path: Path) -> str | None:
    """At the first start makes the user `admin` and a token in a file for the service's user alone.

    Returns the token's text if this call made it. The file is written before the commit: killed in between, the next
    start finds no user, so what lies there opens nothing and is replaced. The other way round would leave an admin
    whom nobody can be.
    """
    with database.write() as session:
        if session.scalar(select(exists().where(User.name.is_not(None)))):
            return None
        create(session, FIRST_ADMIN)
        _, text = create_token(session, FIRST_ADMIN, "made at the first start", Scope.ADMIN)
        path.unlink(missing_ok=True)
        _write_secret(path, text)
    return text


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # the umask may have taken even the owner's rights
        os.write(descriptor, f"{text}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some file systems cannot sync a folder
            os.fsync(folder)
    finally:
        os.close(folder)

"""Who there is, what speaks for them, and what they file their runs under."""

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from service.states import Scope, Visibility
from service.tables.base import Table, words


class User(Table):
    """Somebody who submits. The name is the key: it is never given to another, also when the user has left."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[str] = mapped_column(String(24))
    removed_at: Mapped[str | None] = mapped_column(String(24))


class Token(Table):
    """A secret that speaks for a user; only its SHA-256 is kept."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.name"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    scope: Mapped[Scope] = mapped_column(words(Scope))
    created_at: Mapped[str] = mapped_column(String(24))
    expires_at: Mapped[str | None] = mapped_column(String(24))
    revoked_at: Mapped[str | None] = mapped_column(String(24))


class Project(Table):
    """A name that runs are filed under. What is private exists for its members and admins alone."""

    __tablename__ = "projects"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str | None] = mapped_column(ForeignKey("users.name"))
    visibility: Mapped[Visibility] = mapped_column(words(Visibility))
    created_at: Mapped[str] = mapped_column(String(24))


class ProjectMember(Table):
    __tablename__ = "project_members"

    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.name"), primary_key=True, index=True)


class IdempotencyKey(Table):
    """What a client's key made the first time, for 24 hours."""

    __tablename__ = "idempotency_keys"

    user: Mapped[str] = mapped_column(ForeignKey("users.name"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    resource: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[str] = mapped_column(String(24), index=True)

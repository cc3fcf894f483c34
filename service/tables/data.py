"""What is trained on."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Integer,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.tables.base import Table


class Dataset(Table):
    """One immutable version of named training data; its arrays lie in `datasets/<id>/`.

    sha256, bytes: of the file that it was made from. arrays_sha256, stored_bytes: of the arrays, which trainers read.
    path: of a registered file, which stays where it is; copied: whether its arrays were made from it all the same.
    A version that was removed stays here: finished jobs point to it, and its number is not given again.
    """

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    format: Mapped[str] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(16))
    task: Mapped[str] = mapped_column(String(32))
    shape: Mapped[list[int]] = mapped_column(JSON)
    rows: Mapped[int] = mapped_column(BigInteger)
    validation_rows: Mapped[int | None] = mapped_column(BigInteger)
    columns: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    target: Mapped[str | None] = mapped_column(String(128))
    classes: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    arrays_sha256: Mapped[str] = mapped_column(String(64))
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    path: Mapped[str | None] = mapped_column(String(4096))
    copied: Mapped[bool] = mapped_column(default=True)
    description: Mapped[str] = mapped_column(String(2000))
    owner: Mapped[str | None] = mapped_column(ForeignKey("users.name"))
    created_at: Mapped[str] = mapped_column(String(24))
    removed_at: Mapped[str | None] = mapped_column(String(24))

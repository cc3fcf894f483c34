"""What all tables have in common: how their constraints are named, and columns of words."""

from enum import Enum

from sqlalchemy import BigInteger, Enum as EnumColumn, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase

# SQLite numbers rows by itself only in a column declared INTEGER.
Serial = BigInteger().with_variant(Integer, "sqlite")


def words(enumeration: type[Enum]) -> EnumColumn:
    """A column that stores the words of an enumeration and refuses members of another."""
    return EnumColumn(
        enumeration,
        values_callable=lambda members: [member.value for member in members],
        native_enum=False,
        create_constraint=True,
        length=16,
        name=enumeration.__name__.lower(),
    )


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )

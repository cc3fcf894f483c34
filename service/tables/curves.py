"""The curve store: a summary of each curve, its points, and what stands for many of them."""

from sqlalchemy import (
    BigInteger,
    Computed,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.states import Direction
from service.tables.base import Serial, Table, words


class Series(Table):
    """One curve of one run and its summary, so that a list of runs never touches a point.

    `first`, `last`, `min` and `max` are NULL for NaN or for no such value; min and max are over finite values.
    """

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("run", "name"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    run: Mapped[int] = mapped_column(ForeignKey("runs.seq", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(128))
    direction: Mapped[Direction] = mapped_column(words(Direction))
    count: Mapped[int] = mapped_column(BigInteger, default=0)
    non_finite: Mapped[int] = mapped_column(BigInteger, default=0)
    first: Mapped[float | None] = mapped_column(Double)
    first_step: Mapped[int | None] = mapped_column(BigInteger)
    last: Mapped[float | None] = mapped_column(Double)
    last_step: Mapped[int | None] = mapped_column(BigInteger)
    min: Mapped[float | None] = mapped_column(Double)
    min_step: Mapped[int | None] = mapped_column(BigInteger)
    max: Mapped[float | None] = mapped_column(Double)
    max_step: Mapped[int | None] = mapped_column(BigInteger)


# Of a value. A query must say it in these very words for SQLite to see that the index of such points answers it.
NOT_FINITE = "value IS NULL OR abs(value) > 1.7976931348623157e308"


class Point(Table):
    """One logged value. `position` counts from 0 in the order of logging; a NULL `value` is NaN.

    `time` is in seconds of active training since the run's first step began. It and `step` follow from what is stored:
    a small whole number takes a quarter of a large one's room, and nothing at all where it is 0 or 1.
    """

    __tablename__ = "points"
    __table_args__ = (
        # A curve of millions of points shows each NaN that it has: without this they would have to be looked for.
        Index(
            "ix_points_not_finite",
            "series",
            "position",
            sqlite_where=text(NOT_FINITE),
            postgresql_where=text(NOT_FINITE),
        ),
        {"sqlite_with_rowid": False},
    )

    series: Mapped[int] = mapped_column(ForeignKey("series.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # How far the step is ahead of the position: 1 all along where each step is logged.
    lead: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float | None] = mapped_column(Double)
    # Ten-thousandths of a second.
    ticks: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger, Computed("position + lead", persisted=False))
    time: Mapped[float] = mapped_column(Double, Computed("ticks / 10000.0", persisted=False))


class Rollup(Table):
    """A packed block of summaries: at level 1 each stands for 16 positions of a series, eight make one of the next.

    What `data` holds is for `curves.rollups` to know; of level 1 it is compressed.
    """

    __tablename__ = "rollups"
    __table_args__ = {"sqlite_with_rowid": False}

    series: Mapped[int] = mapped_column(ForeignKey("series.id", ondelete="CASCADE"), primary_key=True)
    level: Mapped[int] = mapped_column(Integer, primary_key=True)
    block: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)

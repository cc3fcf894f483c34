"""Points and rollups in less room: steps and times as small whole numbers, the lowest rollups compressed."""

import zlib

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

RECORD_BYTES = 96
HALF = 24 * RECORD_BYTES  # of a block of level 1
BLOCKS_AT_ONCE = 1000

BLOCKS = sa.text(
    "SELECT block, data FROM rollups WHERE series = :series AND level = 1 AND block < :before "
    "ORDER BY block DESC LIMIT :most"
)
STORE = sa.text(
    "INSERT INTO rollups (series, level, block, data) VALUES (:series, 1, :block, :data) "
    "ON CONFLICT (series, level, block) DO UPDATE SET data = excluded.data"
)


def upgrade() -> None:
    op.create_table(
        "smaller_points",
        sa.Column("series", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("lead", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("ticks", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), sa.Computed("position + lead", persisted=False), nullable=False),
        sa.Column("time", sa.Double(), sa.Computed("ticks / 10000.0", persisted=False), nullable=False),
        sa.ForeignKeyConstraint(["series"], ["series.id"], name=op.f("fk_points_series"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("series", "position", name=op.f("pk_points")),
        sqlite_with_rowid=False,
    )
    # In the order of the key, so that rows are only ever added at the end.
    op.execute(
        "INSERT INTO smaller_points (series, position, lead, value, ticks) "
        "SELECT series, position, step - position, value, CAST(round(time * 10000) AS BIGINT) "
        "FROM points ORDER BY series, position"
    )
    op.drop_table("points")
    op.rename_table("smaller_points", "points")
    connection = op.get_bind()
    for series in connection.scalars(sa.text("SELECT id FROM series")).all():
        _compress(connection, series)


def _compress(connection: sa.Connection, series: int) -> None:
    """Two compressed blocks for each one. From the last one on, so that none is overwritten before it was read."""
    before = 2**62
    while found := connection.execute(BLOCKS, {"series": series, "before": before, "most": BLOCKS_AT_ONCE}).all():
        parts = ((2 * row.block + part, row.data[part * HALF : (part + 1) * HALF]) for row in found for part in (1, 0))
        stored = [{"series": series, "block": block, "data": _compressed(data)} for block, data in parts if data]
        connection.execute(STORE, stored)
        before = found[-1].block


def _compressed(data: bytes) -> bytes:
    """Bytes of the same place in all records stand together, which makes them shorter."""
    return zlib.compress(b"".join(data[place::RECORD_BYTES] for place in range(RECORD_BYTES)), 1)

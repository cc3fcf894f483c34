"""An index of the points that are NaN or infinite, which readers of long curves are shown each."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_points_not_finite",
        "points",
        ["series", "position"],
        unique=False,
        sqlite_where=sa.text("value IS NULL OR abs(value) > 1.7976931348623157e308"),
        postgresql_where=sa.text("value IS NULL OR abs(value) > 1.7976931348623157e308"),
    )

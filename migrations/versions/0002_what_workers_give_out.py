"""What workers give out: the memory of one trainer, and slots that are out of service."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("trainer_memory_mib", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("out_of_service", sa.JSON(), server_default="[]", nullable=False))

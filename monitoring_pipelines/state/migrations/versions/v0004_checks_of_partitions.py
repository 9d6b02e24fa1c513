"""What audits said of every partition."""

import sqlalchemy as sa
from alembic import op

from monitoring_pipelines.state import types

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "partition_check",
        sa.Column("source_id", types.Word, nullable=False),
        sa.Column("table_name", types.Word, nullable=False),
        sa.Column("bucket", types.Instant(), nullable=False),
        sa.Column("checks", types.Json(), nullable=False),
        sa.Column("checked_at", types.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "table_name", "bucket", name=op.f("pk_partition_check")),
    )
    with op.batch_alter_table("partition_check", schema=None) as batch_op:
        batch_op.create_index("ix_partition_check_bucket", ["bucket"], unique=False)

"""Rows of the built-in collectors are read by time."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_index("ix_collected_at", "collected", ["at"], unique=False)

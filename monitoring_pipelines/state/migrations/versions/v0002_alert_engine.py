"""What the alert engine keeps per check run and per channel."""

import sqlalchemy as sa
from alembic import op

from monitoring_pipelines.state import types

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "alert_channel",
        sa.Column("alert_id", types.Id, nullable=False),
        sa.Column("channel", types.Key, nullable=False),
        sa.Column("notified_at", types.Instant(), nullable=True),
        sa.Column("last_sent_at", types.Instant(), nullable=True),
        sa.Column("open_notification_id", types.Id, nullable=True),
        sa.PrimaryKeyConstraint("alert_id", "channel", name=op.f("pk_alert_channel")),
    )
    with op.batch_alter_table("alert_channel", schema=None) as batch_op:
        batch_op.create_index("ix_alert_channel_open_notification_id", ["open_notification_id"], unique=False)

    with op.batch_alter_table("check_run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("alerted_at", types.Instant(), nullable=True))
        batch_op.create_index("ix_check_run_alerted_at", ["alerted_at"], unique=False)

    with op.batch_alter_table("notification", schema=None) as batch_op:
        batch_op.create_index("ix_notification_channel_state_due_at", ["channel", "state", "due_at"], unique=False)
        batch_op.create_index("ix_notification_sent_at", ["sent_at"], unique=False)
        batch_op.create_index("ix_notification_via_digest", ["via_digest"], unique=False)

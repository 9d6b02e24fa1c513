"""Which run of Dagster made a check run."""

import sqlalchemy as sa
from alembic import op

from monitoring_pipelines.state import types

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    with op.batch_alter_table("check_run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("dagster_run_id", types.Key, nullable=True))

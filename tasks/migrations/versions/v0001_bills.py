"""The table of bills: one row per successful run."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table of bills."""
    op.create_table(
        "bills",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("units", sa.Integer, nullable=False),
        sa.Column("usd_per_step", sa.String(32), nullable=False),
        sa.Column("billed_at", sa.DateTime(timezone=True), nullable=False),
        if_not_exists=True,  # ledgers from before there were migrations have it
    )


def downgrade() -> None:
    """Refuse: bills are not thrown away."""
    raise NotImplementedError("the ledger only goes forward; restore a backup instead")

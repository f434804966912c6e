"""The tables of requests that came over HTTP, and of how runs ended."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "requests",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(256)),
        sa.Column("webhook", sa.Text),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("run_id", sa.String(36)),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("code", sa.Integer),
        sa.Column("answer", sa.Text),
        sa.Column("webhook_tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("webhook_state", sa.Text),
        sa.UniqueConstraint("owner", "idempotency_key"),
    )
    op.create_table(
        "outcomes",
        sa.Column("run_id", sa.String(36), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Refuse: requests are not thrown away."""
    raise NotImplementedError("the ledger only goes forward; restore a backup instead")

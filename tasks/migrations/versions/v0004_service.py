"""State that several processes of the API share: secrets, cancellations, when a webhook is due, until when to start."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table and columns."""
    for name in ("cancelled_at", "start_by", "webhook_due"):
        op.add_column("requests", sa.Column(name, sa.DateTime(timezone=True)))
    op.create_index("requests_by_end", "requests", ["ended_at"])
    op.create_index("requests_by_webhook", "requests", ["webhook_state"])
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.String(256), nullable=False),
    )


def downgrade() -> None:
    """Refuse: secrets are not thrown away."""
    raise NotImplementedError("the ledger only goes forward; restore a backup instead")

"""Priority of a request in the queue."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; earlier requests have waited in the one queue there was."""
    op.add_column("requests", sa.Column("priority", sa.String(8), nullable=False, server_default="normal"))


def downgrade() -> None:
    """Refuse: requests are not thrown away."""
    raise NotImplementedError("the ledger only goes forward; restore a backup instead")

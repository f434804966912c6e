"""Owners of uploaded content, and the states of uploads in parts."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make both tables; earlier uploads belong to the owner who began them."""
    op.create_table(
        "owned",
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "parts",
        sa.Column("upload_id", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("etag", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.execute(
        "INSERT INTO owned (owner, sha256, name, size, at) SELECT owner, sha256, MIN(name), 0, MIN(at) FROM uploads "
        "WHERE sha256 IS NOT NULL GROUP BY owner, sha256"
    )


def downgrade() -> None:
    """Refuse: uploads are not thrown away."""
    raise NotImplementedError("the ledger only goes forward; restore a backup instead")

"""Which server leads, where several use the database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """From 0008."""
    op.create_table(
        "leaders",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """To 0008."""
    op.drop_table("leaders")

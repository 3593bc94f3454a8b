"""Fetches have an owner; the place in the stream of signals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From 0001."""
    op.add_column("fetches", sa.Column("owner", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "position",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("stream", sa.String(64), nullable=False),
        sa.Column("entry", sa.String(64), nullable=False),
    )


def downgrade() -> None:
    """To 0001."""
    op.drop_table("position")
    op.drop_column("fetches", "owner")

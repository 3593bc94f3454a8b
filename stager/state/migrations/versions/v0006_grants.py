"""Grants, and which fetches brought what needs one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """From 0005."""
    op.add_column(
        "fetches", sa.Column("restricted", sa.Boolean, nullable=False, server_default=sa.text("false"))
    )
    op.create_table(
        "grants",
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("key_digest", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("granted_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("credentials", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """To 0005."""
    op.drop_table("grants")
    op.drop_column("fetches", "restricted")

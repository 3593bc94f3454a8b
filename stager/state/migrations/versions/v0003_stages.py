"""Stage requests and their files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_STAGED_IS_OPEN = sa.text("state = 'queued' OR (pinned AND state <> 'ready')")


def upgrade() -> None:
    """From 0002."""
    op.create_table(
        "stages",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("keep_seconds", sa.Float),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "staged",
        sa.Column("stage", sa.String(16), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("expected", sa.String(64)),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("fetch", sa.String(16)),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("ended_at", sa.Float),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("pinned_until", sa.Float),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "staged_open",
        "staged",
        ["stage"],
        sqlite_where=_STAGED_IS_OPEN,
        postgresql_where=_STAGED_IS_OPEN,
    )


def downgrade() -> None:
    """To 0002."""
    op.drop_table("staged")
    op.drop_table("stages")

"""Fetches that wait for a credential are open."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_BEFORE = sa.text("state IN ('queued', 'running', 'lost')")
_NOW = sa.text("state IN ('queued', 'running', 'locked', 'lost')")


def upgrade() -> None:
    """From 0004."""
    _index(_NOW)


def downgrade() -> None:
    """To 0004."""
    op.execute("UPDATE fetches SET state = 'queued' WHERE state = 'locked'")
    _index(_BEFORE)


def _index(where: sa.TextClause) -> None:
    op.drop_index("fetches_open", "fetches")
    op.create_index("fetches_open", "fetches", ["id"], sqlite_where=where, postgresql_where=where)

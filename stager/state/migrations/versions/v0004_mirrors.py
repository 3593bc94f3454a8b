"""Files have mirrors, a size that they must have, and digests of other algorithms than SHA-256."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TABLES = ("fetches", "staged")


def upgrade() -> None:
    """From 0003."""
    for table in _TABLES:
        op.add_column(table, sa.Column("mirrors", sa.Text))
        op.add_column(table, sa.Column("expected_size", sa.BigInteger))
        op.add_column(table, sa.Column("digest", sa.Text))


def downgrade() -> None:
    """To 0003."""
    for table in _TABLES:
        for column in ("digest", "expected_size", "mirrors"):
            op.drop_column(table, column)

"""Users, tokens, the audit log; whose a job is, in a column of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_OWNER = {
    "sqlite": "json_extract(spec, '$.owner')",
    "postgresql": "spec::json ->> 'owner'",
}


def upgrade() -> None:
    """From 0006."""
    op.add_column("jobs", sa.Column("owner", sa.String(64), nullable=False, server_default=""))
    owner = _OWNER[op.get_bind().dialect.name]
    op.execute(f"UPDATE jobs SET owner = {owner} WHERE {owner} IS NOT NULL")  # noqa: S608 - ours
    op.create_index("jobs_owner", "jobs", ["owner", "id"])
    op.create_table(
        "users",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(12), nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("last_used_at", sa.Float),
        sqlite_with_rowid=False,
    )
    op.create_index("tokens_digest", "tokens", ["digest"], unique=True)
    op.create_table(
        "accounts_revision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("who", sa.String(64), nullable=False),
        sa.Column("role", sa.String(12), nullable=False),
        sa.Column("token", sa.String(16), nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("audit_who", "audit", ["who", "id"])


def downgrade() -> None:
    """To 0006."""
    for table in ("audit", "accounts_revision", "tokens", "users"):
        op.drop_table(table)
    op.drop_index("jobs_owner", "jobs")
    op.drop_column("jobs", "owner")

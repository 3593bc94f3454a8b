"""Jobs, fetches, preconditions, results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_JOB_IS_OPEN = sa.text("handed OR state IN ('waiting', 'ready', 'dispatched', 'running')")
_FETCH_IS_OPEN = sa.text("state IN ('queued', 'running', 'lost')")
_IS_NAMED = sa.text("name <> ''")


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("handed", sa.Boolean, nullable=False),
        sa.Column("submitted_at", sa.Float, nullable=False),
        sa.Column("ready_at", sa.Float),
        sa.Column("dispatched_at", sa.Float),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("exit_code", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("fetches", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("jobs_open", "jobs", ["id"], sqlite_where=_JOB_IS_OPEN, postgresql_where=_JOB_IS_OPEN)
    op.create_index("jobs_name", "jobs", ["name"], sqlite_where=_IS_NAMED, postgresql_where=_IS_NAMED)
    op.create_table(
        "fetches",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("expected", sa.String(64)),
        sa.Column("refresh", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("first_try_at", sa.Float),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("fresh_until", sa.Float),
        sa.Column("cached", sa.Boolean, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("resumed_from", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "fetches_open", "fetches", ["id"], sqlite_where=_FETCH_IS_OPEN, postgresql_where=_FETCH_IS_OPEN
    )
    op.create_table(
        "preconditions",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("met_at", sa.Float),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "results",
        sa.Column("job", sa.String(16), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )

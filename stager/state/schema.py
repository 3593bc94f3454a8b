"""Tables. Times are seconds since 1970 UTC, sizes are bytes, errors are JSON (`StagerError.to_dict`)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, text

HEAD = "0010"
"""Version of this schema; the newest of `stager.state.migrations.versions`."""

metadata = MetaData()

_ID = String(16)
_DIGEST = String(64)
_STATE = String(12)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", _STATE, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("handed", Boolean, nullable=False),
    Column("submitted_at", Float, nullable=False),
    Column("ready_at", Float),
    Column("dispatched_at", Float),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("exit_code", Integer),
    Column("error", Text),
    Column("fetches", Text, nullable=False),  # JSON list: the fetch of each input, in their order
    Column("spec", Text, nullable=False),  # JSON: JobSpec.to_dict
    Column("owner", String(64), nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

JOB_IS_OPEN = text("handed OR state IN ('waiting', 'ready', 'dispatched', 'running')")
Index("jobs_open", jobs.c.id, sqlite_where=JOB_IS_OPEN, postgresql_where=JOB_IS_OPEN)
# small however long the history is: what a start has to read
Index("jobs_name", jobs.c.name, sqlite_where=text("name <> ''"), postgresql_where=text("name <> ''"))
Index("jobs_owner", jobs.c.owner, jobs.c.id)

fetches = Table(
    "fetches",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("url", Text, nullable=False),
    Column("expected", _DIGEST),
    Column("refresh", Boolean, nullable=False),
    Column("state", _STATE, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("first_try_at", Float),
    Column("not_before", Float, nullable=False),
    Column("ended_at", Float),
    Column("sha256", _DIGEST, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("fresh_until", Float),
    Column("cached", Boolean, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("resumed_from", BigInteger, nullable=False),
    Column("error", Text),
    Column("owner", String(64), nullable=False, server_default=""),
    Column("mirrors", Text),  # JSON list of URLs, or nothing
    Column("expected_size", BigInteger),
    Column("digest", Text),  # what is expected, ALGORITHM:HEX, when it is no SHA-256
    Column("restricted", Boolean, nullable=False, server_default=text("false")),
    sqlite_with_rowid=False,
)

FETCH_IS_OPEN = text("state IN ('queued', 'running', 'locked', 'lost')")
Index("fetches_open", fetches.c.id, sqlite_where=FETCH_IS_OPEN, postgresql_where=FETCH_IS_OPEN)

preconditions = Table(
    "preconditions",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("met_at", Float),
    sqlite_with_rowid=False,
)

results = Table(
    "results",
    metadata,
    Column("job", _ID, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("sha256", _DIGEST, nullable=False),
    Column("size", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

position = Table(
    "position",
    metadata,
    Column(
        "id", Integer, primary_key=True, autoincrement=False
    ),  # one row, 0: up to where signals are taken in
    Column("stream", String(64), nullable=False),
    Column("entry", String(64), nullable=False),
)

stages = Table(
    "stages",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("keep_seconds", Float),
    Column("created_at", Float, nullable=False),
    Column("deleted", Boolean, nullable=False),  # not shown any more; goes when the last pin is gone
    sqlite_with_rowid=False,
)

staged = Table(
    "staged",
    metadata,
    Column("stage", _ID, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("url", Text, nullable=False),
    Column("expected", _DIGEST),
    Column("state", _STATE, nullable=False),
    Column("fetch", _ID),
    Column("sha256", _DIGEST, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("error", Text),
    Column("ended_at", Float),
    Column("pinned", Boolean, nullable=False),
    Column("pinned_until", Float),
    Column("mirrors", Text),  # these as of fetches
    Column("expected_size", BigInteger),
    Column("digest", Text),
    sqlite_with_rowid=False,
)

STAGED_IS_OPEN = text("state = 'queued' OR (pinned AND state <> 'ready')")
Index("staged_open", staged.c.stage, sqlite_where=STAGED_IS_OPEN, postgresql_where=STAGED_IS_OPEN)

grants = Table(
    "grants",
    metadata,
    Column("owner", String(64), primary_key=True),  # a user's name
    Column("key_digest", _DIGEST, primary_key=True),  # keys are too long for an index
    Column("sha256", _DIGEST, primary_key=True),
    Column("key", Text, nullable=False),
    Column("granted_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("credentials", Text, nullable=False),  # JSON list of ids
    sqlite_with_rowid=False,
)

users = Table(
    "users",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", _STATE, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    sqlite_with_rowid=False,
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("owner", String(64), nullable=False),  # a user's name
    Column("name", Text, nullable=False),
    Column("digest", _DIGEST, nullable=False),  # of the secret, which is kept nowhere
    Column("scopes", Text),  # JSON list, or nothing: all that its user may
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("last_used_at", Float),
    sqlite_with_rowid=False,
)
Index("tokens_digest", tokens.c.digest, unique=True)

accounts_revision = Table(
    "accounts_revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row, 0
    Column("number", BigInteger, nullable=False),  # counts changes of the two tables above
)

audit = Table(
    "audit",
    metadata,
    Column("id", _ID, primary_key=True),  # sorts by time
    Column("at", Float, nullable=False),
    Column("who", String(64), nullable=False),  # empty: nobody known
    Column("role", _STATE, nullable=False),
    Column("token", _ID, nullable=False),
    Column("action", Text, nullable=False),  # method and path of the route
    Column("subject", Text, nullable=False),  # what it was done to, without secrets
    Column("status", Integer, nullable=False),  # of the answer
    Column("request", Text, nullable=False),  # id of the request
    Column("address", Text, nullable=False),  # where it came from
    sqlite_with_rowid=False,
)
Index("audit_who", audit.c.who, audit.c.id)
events = Table(
    "events",
    metadata,
    # One row for each batch of changes that told something.
    Column("last", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("first", BigInteger, nullable=False),  # numbers of its events
    Column("at", Float, nullable=False),
    Column("told", Text, nullable=False),  # JSON list of them, each a list; see stager.state.chronicle
)

leaders = Table(
    "leaders",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row, 0; see stager.state.leadership
    Column("term", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("digest", _DIGEST, primary_key=True),  # of an Idempotency-Key and who sent it
    Column("asked", _DIGEST, nullable=False),  # digest of the request, made with the key
    Column("answer", Text, nullable=False),  # JSON
    Column("at", Float, nullable=False),
    sqlite_with_rowid=False,
)

version = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))
"""Where Alembic keeps the version; listed here so that a new database can be made without it."""

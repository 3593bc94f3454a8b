"""Tables of the catalogue. Digests are stored as bytes, which halves it; sizes are bytes, times seconds since 1970 UTC."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    literal_column,
)

CATALOGUE_VERSION = 1
"""Of these tables. The catalogue of another version is thrown away and read off the tree anew."""

metadata = MetaData()

files = Table(
    "catalogue_files",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("key", Text, nullable=False),
    Column("object", LargeBinary(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("stored_at", Float, nullable=False),
    Column("last_access", Float, nullable=False),
    Column("hits", Integer, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("host", Text, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("fresh_until", Float),
    Column("keep_until", Float),
    Column("restricted", Boolean, nullable=False),
    Column("alias", Boolean, nullable=False),  # another row of the same object counts its bytes
    Column("verified_at", Float, nullable=False),  # when the bytes were last read and found right; 0: never
    Column("former", LargeBinary(32)),  # of an unnamed object: digest of the key that had it before, if known
    Column("walk", Integer, nullable=False),  # number of the last walk of the tree that met it
)

IS_ALIAS: ColumnElement[bool] = literal_column(f"{files.name}.alias")
"""Compared with a value, as a column of truth values is, SQLite does not see that the index of these alone will do."""
DIGEST_INDEX = Index("catalogue_digest", files.c.digest, unique=True)
"""Rows are found by it when they change."""
INDEXES = (
    Index("catalogue_object", files.c.object),
    Index("catalogue_size", files.c.size),
    Index("catalogue_access", files.c.last_access),
    Index("catalogue_owner", files.c.owner, files.c.last_access),
    *(
        Index(f"catalogue_{kind}", column, sqlite_where=only, postgresql_where=only)
        for kind, column in (("result", files.c.stored_at), ("unnamed", files.c.last_access))
        for only in (files.c.kind == literal_column(f"'{kind}'"),)
    ),
    Index("catalogue_alias", files.c.object, sqlite_where=files.c.alias, postgresql_where=files.c.alias),
    Index(
        "catalogue_former",
        files.c.former,
        sqlite_where=files.c.former.is_not(None),
        postgresql_where=files.c.former.is_not(None),
    ),
)

"""Rows are chosen and put in order by them; when many rows are put in, they are made afterwards."""

owners = Table(
    "catalogue_owners",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Running totals, so that to know how full the cache is costs the same however much there is."""

facts = Table(
    "catalogue_facts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""``version``; ``root`` of the cache; ``walk``: number of the last one; ``walked_at``: when one last came to its end."""

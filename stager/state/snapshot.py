"""Reading a catalogue in SQLite with nothing but Python's own driver: a list is there before SQLAlchemy is imported.

It gives what `Catalogue.ls` and `Catalogue.count` give; the words of a selection and of the orders are theirs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple

VERSION = "1"
"""Of the tables; see `CATALOGUE_VERSION`."""
COLUMNS = (
    "digest", "key", "object", "size", "stored_at", "last_access", "hits", "owner", "host",
    "fresh_until", "keep_until", "restricted", "kind",
)  # fmt: skip
ORDERS = {
    "size": "size DESC, id DESC",
    "access": "last_access, id",
    "age": "stored_at, id",
    "hits": "hits DESC, id",
    "url": "key, id",
}
CONDITIONS = {
    "host": "host = :host",
    "owner": "owner = :owner",
    "unused_since": "last_access < :unused_since",
    "stored_before": "stored_at < :stored_before",
    "kind": "kind = :kind",
    "key": "key = :key",
}
PATIENCE_SECONDS = 5.0
"""How long it waits for somebody who changes the tables themselves."""


class Snapshot(NamedTuple):
    """Some rows of a selection, each with the values of `COLUMNS`.

    Attributes:
        rows: in the order asked for; digests in hexadecimal.
        total: rows of the whole selection.
        walked_at: when the tree was last read to its end.
    """

    rows: list[dict[str, Any]]
    total: int
    walked_at: float


def snapshot(
    path: str, root: str, sort: str, selection: Mapping[str, str | float], limit: int | None
) -> Snapshot | None:
    """The first `limit` rows of a selection.

    Args:
        path: of the database's file.
        root: of the cache.
        sort: one of `ORDERS`.
        selection: values of `CONDITIONS`.
        limit: rows at most; None: all.

    Returns:
        None if there is no catalogue of that cache, or it was never read off the tree to its end, or it can't be
        read by this user.
    """
    try:
        with closing(sqlite3.connect(read_only(path), PATIENCE_SECONDS, uri=True)) as connection:
            facts = dict(connection.execute("SELECT name, value FROM catalogue_facts"))
            if facts.get("version") != VERSION or facts.get("root") != root or "walked_at" not in facts:
                return None
            return Snapshot(*select(connection, sort, selection, limit), float(facts["walked_at"]))
    except sqlite3.Error:
        return None


def catalogue_path(state_dir: str, root: str) -> str:
    """The file of that cache's catalogue in a state directory: ``catalogue.db``, unless that is another cache's."""
    path = f"{state_dir}/catalogue.db"
    try:
        with closing(sqlite3.connect(read_only(path), PATIENCE_SECONDS, uri=True)) as connection:
            (found,) = connection.execute("SELECT value FROM catalogue_facts WHERE name = 'root'").fetchone()
    except (sqlite3.Error, TypeError):  # none there yet, or nothing in it
        return path
    if found == root:
        return path
    from hashlib import sha256  # which few need, and which takes a while to import

    return f"{state_dir}/catalogue-{sha256(root.encode()).hexdigest()[:12]}.db"


def read_only(path: str) -> str:
    """The database's file as SQLite opens it without ever writing to it."""
    return "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?mode=ro"


def select(
    connection: sqlite3.Connection, sort: str, selection: Mapping[str, str | float], limit: int | None
) -> tuple[list[dict[str, Any]], int]:
    """The first `limit` rows of a selection of table ``catalogue_files``, and how many rows all of it has.

    Raises:
        sqlite3.Error: the table can't be read.
    """
    wanted = " AND ".join(CONDITIONS[name] for name in selection)
    where = f" WHERE {wanted}" if wanted else ""
    query = f"SELECT {', '.join(COLUMNS)} FROM catalogue_files{where} ORDER BY {ORDERS[sort]} LIMIT :limit"  # noqa: S608 - of our own words
    most = -1 if limit is None else limit
    rows = [_row(row) for row in connection.execute(query, {**selection, "limit": most})]
    if limit is None or len(rows) < limit:
        return rows, len(rows)
    (total,) = connection.execute(
        f"SELECT count(*) FROM catalogue_files{where}",  # noqa: S608
        dict(selection),
    ).fetchone()
    return rows, total


def _row(values: tuple[Any, ...]) -> dict[str, Any]:
    row = dict(zip(COLUMNS, values, strict=True))
    row["digest"], row["object"] = row["digest"].hex(), row["object"].hex()
    row["restricted"] = bool(row["restricted"])
    return row

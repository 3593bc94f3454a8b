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
        walked_at: when the tree was last read to its end; None: never.
    """

    rows: list[dict[str, Any]]
    total: int
    walked_at: float | None


def snapshot(
    path: str, root: str, sort: str, selection: Mapping[str, str | float], limit: int | None
) -> Snapshot | None:
    """The first `limit` rows of a selection; None if there is no catalogue of that cache at `path`, or none that can be read.

    Args:
        path: of the database's file.
        root: of the cache.
        sort: one of `ORDERS`.
        selection: values of `CONDITIONS`.
        limit: rows at most; None: all.
    """
    wanted = " AND ".join(CONDITIONS[name] for name in selection)
    where = f" WHERE {wanted}" if wanted else ""
    try:
        uri = "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?mode=ro"
        with closing(sqlite3.connect(uri, PATIENCE_SECONDS, uri=True)) as connection:
            facts = dict(connection.execute("SELECT name, value FROM catalogue_facts"))
            if facts.get("version") != VERSION or facts.get("root") != root:
                return None
            chosen = f"SELECT {', '.join(COLUMNS)} FROM catalogue_files{where}"  # noqa: S608 - of our own words
            query = f"{chosen} ORDER BY {ORDERS[sort]} LIMIT :limit"
            most = -1 if limit is None else limit
            rows = connection.execute(query, {**selection, "limit": most}).fetchall()
            total = len(rows)
            if limit is not None and total == limit:
                (total,) = connection.execute(
                    f"SELECT count(*) FROM catalogue_files{where}",  # noqa: S608
                    dict(selection),
                ).fetchone()
    except sqlite3.Error:
        return None
    walked_at = facts.get("walked_at")
    return Snapshot([_row(row) for row in rows], total, None if walked_at is None else float(walked_at))


def _row(values: tuple[Any, ...]) -> dict[str, Any]:
    row = dict(zip(COLUMNS, values, strict=True))
    row["digest"], row["object"] = row["digest"].hex(), row["object"].hex()
    row["restricted"] = bool(row["restricted"])
    return row

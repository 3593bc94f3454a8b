"""What a walk found, in a database that only this process sees and that is gone with it: put in order, and compared.

However many files there are, memory holds few of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from stager.model.cache_views import Comparison
from stager.model.catalogue import ROW, FileRow
from stager.state.snapshot import read_only, select

FIRST = 10
"""Differences that are named, of each kind."""
_TABLE = """
CREATE TABLE catalogue_files (
    id INTEGER PRIMARY KEY, digest BLOB UNIQUE, key TEXT, object BLOB, size INTEGER, stored_at REAL,
    last_access REAL, owner TEXT, host TEXT, kind TEXT, fresh_until REAL, keep_until REAL, restricted INTEGER,
    former BLOB, hits INTEGER DEFAULT 0
);
CREATE TABLE objects (object BLOB PRIMARY KEY, restricted INTEGER) WITHOUT ROWID;
CREATE TABLE known (digest BLOB PRIMARY KEY, key TEXT, object BLOB, size INTEGER) WITHOUT ROWID;
"""
_PUT = f"INSERT OR REPLACE INTO catalogue_files ({', '.join(ROW)}) VALUES ({', '.join('?' * len(ROW))})"  # noqa: S608
_UNNAMED = """
SELECT object, restricted FROM objects
WHERE NOT EXISTS (SELECT 1 FROM catalogue_files AS f WHERE f.object = objects.object)
"""
_KINDS = {
    "missing": "catalogue_files AS a WHERE NOT EXISTS (SELECT 1 FROM known AS b WHERE b.digest = a.digest)",
    "gone": "known AS a WHERE NOT EXISTS (SELECT 1 FROM catalogue_files AS b WHERE b.digest = a.digest)",
    "changed": "known AS a JOIN catalogue_files AS b USING (digest) WHERE a.object <> b.object OR a.size <> b.size",
}


class Scratch:
    """The files that a walk has met."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", uri=True)
        self._connection.executescript(_TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def put(self, rows: Sequence[FileRow]) -> None:
        """The walk met these files."""
        self._connection.executemany(_PUT, rows)

    def objects(self, seen: Iterable[tuple[str, bool]]) -> None:
        """The walk met these objects: their digests, and whether they are restricted."""
        rows = ((bytes.fromhex(sha256), restricted) for sha256, restricted in seen)
        self._connection.executemany("INSERT OR IGNORE INTO objects VALUES (?, ?)", rows)

    def unnamed(self) -> Iterator[tuple[str, bool]]:
        """Those of the objects that no file has."""
        self._connection.execute("CREATE INDEX IF NOT EXISTS by_object ON catalogue_files (object)")
        for sha256, restricted in self._connection.execute(_UNNAMED).fetchall():
            yield sha256.hex(), bool(restricted)

    def select(
        self, sort: str, selection: Mapping[str, str | float], limit: int | None
    ) -> tuple[list[dict[str, Any]], int]:
        """See `snapshot.select`."""
        return select(self._connection, sort, selection, limit)

    def know(self, files: Iterable[tuple[str, str, str, int]]) -> None:
        """A catalogue has these files: digest, key, object, size."""
        rows = (
            (bytes.fromhex(digest), key, bytes.fromhex(sha256), size) for digest, key, sha256, size in files
        )
        self._connection.executemany("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?)", rows)

    def know_all_of(self, path: str) -> None:
        """The same, of a catalogue in SQLite.

        Raises:
            sqlite3.Error: it can't be read.
        """
        self._connection.commit()
        self._connection.execute("ATTACH ? AS other", (read_only(path),))
        self._connection.execute(
            "INSERT OR REPLACE INTO known SELECT digest, key, object, size FROM other.catalogue_files"
        )
        self._connection.commit()
        self._connection.execute("DETACH other")

    def compare(self) -> Comparison:
        """How what was met differs from what was known."""
        counts: dict[str, Any] = {}
        for kind, condition in _KINDS.items():
            (counts[kind],) = self._connection.execute(f"SELECT count(*) FROM {condition}").fetchone()  # noqa: S608
            first = self._connection.execute(f"SELECT a.key FROM {condition} LIMIT {FIRST}")  # noqa: S608
            counts[f"first_{kind}"] = tuple(key for (key,) in first)
        (files,) = self._connection.execute("SELECT count(*) FROM catalogue_files").fetchone()
        return Comparison(files, **counts)

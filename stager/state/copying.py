"""A copy of an SQLite database, as it is at one moment, while a server writes to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from stager.errors import StateError

PAGES = 2_000
"""Copied at once (8 MB); a writer waits for so many at most."""


def copy_database(source: Path, target: Path) -> str:
    """Copy `source`, whole, into the new file `target`, for its owner alone; the version of its schema.

    Raises:
        StateError: it is no database of ours, or can't be read; or the copy can't be written, or is damaged.
    """
    target.touch(mode=0o600)
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as original,
            closing(sqlite3.connect(target)) as copy,
        ):
            original.backup(copy, pages=PAGES)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, whatever the original has beside it
            (sound,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                raise StateError(f"{source} is damaged", cause=str(sound), remedy="restore an older backup")
            (version,) = copy.execute("SELECT version_num FROM alembic_version").fetchone()
            return str(version)
    except (sqlite3.Error, TypeError) as error:
        raise StateError(
            f"{source} can't be copied", cause=str(error), remedy="see `stager doctor`"
        ) from None

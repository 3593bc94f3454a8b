"""Opening the catalogue's database: made, or emptied when it is not of this version and this cache."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, delete, event, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from stager.errors import StateError
from stager.state.catalogue_schema import CATALOGUE_VERSION, facts, files, metadata, owners
from stager.state.database import BUSY_TIMEOUT_MILLISECONDS, engine_options, make_private


def open_catalogue(url: str, root: Path) -> tuple[Engine, bool]:
    """An engine with the catalogue's tables, and whether they are empty because they were made just now.

    Raises:
        StateError: the database can't be used.
    """
    try:
        engine = create_engine(url, **engine_options(url))
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _configure_sqlite)
            make_private(engine.url.database)
        with engine.begin() as connection:
            return engine, _prepare(connection, str(root))
    except (SQLAlchemyError, ImportError) as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise StateError(
            "the catalogue can't be opened",
            cause=cause,
            remedy="check state_dir; a damaged catalogue.db may be deleted: it is read off the cache again",
        ) from None


def _prepare(connection: Connection, root: str) -> bool:
    expected = {"version": str(CATALOGUE_VERSION), "root": root}
    if inspect(connection).has_table(facts.name):
        found = {row.name: row.value for row in connection.execute(select(facts))}
        if found.get("version") == expected["version"]:
            metadata.create_all(connection)
            if found.get("root") == expected["root"]:
                return False
            for table in (files, owners, facts):
                connection.execute(delete(table))
        else:
            metadata.drop_all(connection)
    metadata.create_all(connection)
    connection.execute(facts.insert(), [{"name": name, "value": value} for name, value in expected.items()])
    return True


def _configure_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(
        "PRAGMA synchronous=NORMAL"
    )  # what a power loss takes, the next walk of the tree brings back
    cursor.execute(
        "PRAGMA cache_size=-65536"
    )  # 64 MiB: the indexes of a million rows are written in random order
    cursor.execute(
        "PRAGMA journal_size_limit=67108864"
    )  # after a rebuild the log is as large as the catalogue
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")
    cursor.close()

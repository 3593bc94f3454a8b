"""Whether a database is as it should be; nothing is made, moved to a new version, or changed."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from stager.errors import StateError
from stager.model.checks import Checked, Health
from stager.state.catalogue_schema import CATALOGUE_VERSION, facts
from stager.state.database import engine_options
from stager.state.schema import HEAD, version

BUSY_SECONDS = 2.0
"""How long a look waits for the server's transactions; they take milliseconds."""
LOOK_SECONDS = 8.0
"""For reading a database through: about a gigabyte."""
CATALOGUE = "catalogue"


class _Version(NamedTuple):
    """Where a database says of which version it is, and the one that this program writes."""

    table: str
    ask: str
    known: str


_VERSIONS = {
    "database": _Version(version.name, f"SELECT version_num FROM {version.name}", HEAD),  # noqa: S608 - a name of ours
    CATALOGUE: _Version(
        facts.name,
        f"SELECT value FROM {facts.name} WHERE name = 'version'",  # noqa: S608 - likewise
        str(CATALOGUE_VERSION),
    ),
}


def database_file(url: str) -> str | None:
    """The file of an SQLite URL; None: it is on a database server.

    Raises:
        StateError: it is no URL of a database.
    """
    parsed = _parsed(url)
    return (parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def database_checks(name: str, url: str) -> Iterator[Checked]:
    """All about one database.

    Args:
        name: ``database`` (the server's state) or ``catalogue``.
        url: as SQLAlchemy takes it.

    Raises:
        StateError: it can't be opened.
    """
    file = database_file(url)
    if file is None:
        yield from _served(name, url)
    elif not Path(file).exists():
        yield Checked(name, Health.SKIPPED, f"{file} does not exist; it is made by its first use")
    else:
        yield from _file(name, file)


def lock_holder(directory: str | os.PathLike[str]) -> int | None:
    """The process that holds the state directory; None: none does. 0: one that can't be seen from here.

    Found in the kernel's table of locks: trying to take the lock could keep a server from starting.
    """
    try:
        inode = str((Path(directory) / "lock").stat().st_ino)
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:  # noqa: PLR2004 - see proc(5)
            return max(0, int(fields[4]))
    return None


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except SQLAlchemyError:  # whose text would repeat the password
        raise StateError(
            "database_url is no URL of a database", remedy="see the reference of settings"
        ) from None


def _file(name: str, file: str) -> Iterator[Checked]:
    try:
        # Read and write, but not made, should it vanish now.
        with closing(
            sqlite3.connect(
                f"file:{quote(file)}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None
            )
        ) as connection:
            yield _schema(name, file, _one(connection, _VERSIONS[name].ask))
            yield _writable(name, connection)
            yield _looked_through(name, connection)
    except sqlite3.Error as error:
        if "malformed" in str(error) or "not a database" in str(error):
            yield _integrity(name, [str(error)])
            return
        raise StateError(
            f"database {file} can't be used",
            cause=str(error),
            remedy="check owner and mode of it and its directory",
        ) from None


def _looked_through(name: str, connection: sqlite3.Connection) -> Checked:
    end = time.monotonic() + LOOK_SECONDS
    connection.set_progress_handler(lambda: int(time.monotonic() > end), 1000)
    try:
        return _integrity(name, [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")])
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
    found = f"too large to look through in {LOOK_SECONDS:g} s; nothing wrong was met"
    return Checked(
        f"{name} integrity", Health.SKIPPED, found, "`sqlite3 FILE 'PRAGMA quick_check'` does it in full"
    )


def _one(connection: sqlite3.Connection, ask: str) -> str | None:
    try:
        row = connection.execute(ask).fetchone()
    except sqlite3.OperationalError:  # no such table
        return None
    return str(row[0]) if row else None


def _integrity(name: str, wrong: list[str]) -> Checked:
    if wrong == ["ok"]:
        return Checked(f"{name} integrity", Health.OK, "quick_check finds nothing")
    remedy = (
        "stop the server and delete it: it is read off the cache again"
        if name == CATALOGUE
        else "stop the server; put a backup in its place, or try `sqlite3 FILE .recover`"
    )
    return Checked(f"{name} integrity", Health.FAILED, "; ".join(wrong).replace("\n", " "), remedy)


def _schema(name: str, shown: str, found: str | None) -> Checked:
    known = _VERSIONS[name].known
    if found == known:
        return Checked(name, Health.OK, f"{shown}, version {found}")
    if name == CATALOGUE:
        remedy = "the next start makes it anew, from the cache"
        return Checked(
            name, Health.WARNING, f"{shown} has version {found}, this program's is {known}", remedy
        )
    if found is None:
        return Checked(name, Health.FAILED, f"{shown} is not stager's", "check database_url")
    remedy = "the next start of the server brings it up to date; if it refuses to, upgrade the program"
    return Checked(name, Health.WARNING, f"{shown} has version {found}, this program's is {known}", remedy)


def _writable(name: str, connection: sqlite3.Connection) -> Checked:
    try:
        connection.execute("BEGIN IMMEDIATE")  # which alone succeeds on what can only be read
        try:
            (same,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {int(same)}")
        finally:
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            found = f"somebody has been writing to it for {BUSY_SECONDS:g} s"
            return Checked(
                f"{name} writable", Health.WARNING, found, "look again; a server writes for milliseconds"
            )
        remedy = "check owner and mode of it and its directory, and the mount"
        return Checked(f"{name} writable", Health.FAILED, str(error), remedy)
    return Checked(f"{name} writable", Health.OK, "a transaction may write")


def _served(name: str, url: str) -> Iterator[Checked]:
    shown = _parsed(url).render_as_string(hide_password=True)
    table, ask, _ = _VERSIONS[name]
    try:
        engine = create_engine(url, poolclass=NullPool, **_without_pool(engine_options(url)))
        with engine.connect() as connection:
            only = connection.exec_driver_sql("SHOW transaction_read_only").scalar()
            if connection.exec_driver_sql(f"SELECT to_regclass('{table}')").scalar() is None:
                yield Checked(
                    name, Health.SKIPPED, f"{shown}: no tables yet; they are made by their first use"
                )
                return
            yield _schema(name, shown, connection.exec_driver_sql(ask).scalar())
    except (SQLAlchemyError, ImportError) as error:
        raise StateError(
            f"database {shown} can't be used",
            cause=str(getattr(error, "orig", None) or error).splitlines()[0],
            remedy="check that the database server runs, and database_url",
        ) from None
    if only == "off":
        yield Checked(f"{name} writable", Health.OK, "a transaction may write")
    else:
        yield Checked(
            f"{name} writable", Health.FAILED, "it can only be read", "connect to the primary server"
        )


def _without_pool(options: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name != "pool_pre_ping"}

"""Opening the database: made new, brought up to date, or refused with a reason."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from stager.errors import StateError
from stager.state.schema import HEAD, metadata, version

CATALOGUE = "catalogue_"
"""How the names of the catalogue's tables begin, which may be in the same database."""
BUSY_TIMEOUT_MILLISECONDS = 10_000
"""How long a connection waits for another one's transaction."""
_KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
"""A database host that is gone is noticed within about 11 seconds..."""
_OPTIONS = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
"""... and so is, by the database, a server's host that is: nobody waits for what it had locked."""


def open_engine(url: str) -> Engine:
    """An engine whose database has the schema of this version.

    Args:
        url: SQLAlchemy URL, such as ``sqlite:////var/lib/stager/stager.db``.

    Raises:
        StateError: the database can't be opened, or is of a newer version.
    """
    try:
        engine = create_engine(url, **watchful_options(url))
    except (SQLAlchemyError, ImportError) as error:
        raise StateError(
            "database setting is unusable", cause=_first_line(error), remedy="check database_url"
        ) from None
    shown = engine.url.render_as_string(hide_password=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        make_private(engine.url.database)
    try:
        with engine.begin() as connection:
            _bring_up_to_date(connection, shown)
    except SQLAlchemyError as error:
        engine.dispose()
        raise StateError(
            f"database {shown} can't be used", cause=_first_line(error), remedy=_remedy(engine)
        ) from None
    except StateError:
        engine.dispose()
        raise
    return engine


def engine_options(url: str) -> dict[str, Any]:
    """What `create_engine` is to be told of a database like that."""
    if url.startswith("sqlite"):
        return {}
    # The database server may have closed a connection meanwhile, and may have no encoding of its own.
    text = {"connect_args": {"client_encoding": "utf8"}} if url.startswith("postgresql") else {}
    return {"pool_pre_ping": True, **text}


def watchful_options(url: str) -> dict[str, Any]:
    """The same, for connections of which both sides notice soon when the other one's host is gone."""
    options = engine_options(url)
    if "connect_args" in options:
        given = make_url(url).query.get(
            "options", ()
        )  # of the site: what is passed beside the URL replaces it
        words = [given] if isinstance(given, str) else list(given)
        options["connect_args"] |= _KEEPALIVE | {"options": " ".join([*words, _OPTIONS])}
    return options


def _remedy(engine: Engine) -> str:
    if engine.dialect.name == "sqlite":
        return "check that the directory exists, is yours and is not full"
    return "check that the database server runs, and database_url"


def _configure_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers never wait for the writer
    cursor.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power loss
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")
    cursor.close()


def make_private(database: str | None) -> None:
    """Make the file of an SQLite database, for its owner alone.

    Raises:
        StateError: it can't be made.
    """
    if database and database != ":memory:":
        path = Path(database)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            remedy = "check state_dir: a directory of yours on a local disk"
            raise StateError(
                f"database {path} can't be made", cause=error.strerror or str(error), remedy=remedy
            ) from None


def _bring_up_to_date(connection: Connection, shown: str) -> None:
    if not inspect(connection).has_table(version.name):
        tables = inspect(connection).get_table_names()
        if not all(table.startswith(CATALOGUE) for table in tables):
            raise StateError(
                f"database {shown} is not stager's",
                cause="it has other tables",
                remedy="give it one of its own",
            )
        metadata.create_all(connection)
        connection.execute(version.insert().values(version_num=HEAD))
        return
    found = connection.execute(select(version.c.version_num)).scalar()
    if found == HEAD:
        return
    _migrate(connection, shown, str(found))


def _migrate(connection: Connection, shown: str, found: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found not in known:
        raise StateError(
            f"database {shown} has version {found}",
            cause=f"this program knows versions up to {HEAD}",
            remedy="upgrade the program",
        )
    command.upgrade(config, "head")


def _first_line(error: BaseException) -> str:
    original: Any = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(original).splitlines()[0] if str(original) else type(original).__name__

"""Rows that a walk has read and that are not in the catalogue yet. If the process is killed they are gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    Table,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects import sqlite

from stager.model.catalogue import ROW, FileRow
from stager.state.bulk import ManyRows
from stager.state.catalogue_rows import BEGIN, PUT_IN, updating, upsert
from stager.state.catalogue_schema import files
from stager.state.spool import Spool

_BESIDE = "waiting"
_ROWS = Table(
    "catalogue_rows",
    MetaData(),
    *(Column(name, files.c[name].type) for name in ROW),
    schema=_BESIDE,
)
_DROPPED = Table("catalogue_dropped", _ROWS.metadata, Column("digest", LargeBinary(32)), schema=_BESIDE)
_WAIT = ManyRows(insert(_ROWS))
_SAFE = f"""
PRAGMA {_BESIDE}.journal_mode=OFF
PRAGMA {_BESIDE}.synchronous=OFF
PRAGMA threads=2
"""
"""Of a database that nobody sees again after a crash; and indexes are sorted by two."""


class WaitingRows(Protocol):
    """Rows of files that go into the catalogue together."""

    def put(self, rows: Sequence[FileRow]) -> None:
        """Let these wait too."""

    def begin(self) -> Any:
        """A context: the connection, in the transaction, in which they may go in."""

    def go_in(self, connection: Connection, walk: int, dropped: set[bytes]) -> None:
        """Put all into the catalogue, but for those with these digests, as met by that walk."""

    def close(self) -> None:
        """What waits is gone."""


def waiting_rows(engine: Engine) -> WaitingRows:
    """None yet; with SQLite in a database beside its own, so that it moves them without any other's help."""
    return _InSqlite(engine) if engine.dialect.name == "sqlite" else _InFile(engine)


class _InSqlite:
    def __init__(self, engine: Engine) -> None:
        self._connection = engine.connect()
        self._connection.detach()  # it is closed at the end, and the other database is gone with it
        self._connection.exec_driver_sql(
            f"ATTACH '' AS {_BESIDE}"
        )  # without a name: SQLite removes it at once
        for pragma in _SAFE.strip().splitlines():
            self._connection.exec_driver_sql(pragma)
        _ROWS.metadata.create_all(self._connection)

    def put(self, rows: Sequence[FileRow]) -> None:
        _WAIT.execute_plain(self._connection, ROW, rows)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        self._connection.commit()
        with self._connection.begin():
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")  # its driver begins none for the indexes
            yield self._connection

    def go_in(self, connection: Connection, walk: int, dropped: set[bytes]) -> None:
        if dropped:
            connection.execute(insert(_DROPPED), [{"digest": digest} for digest in dropped])
        rows = (
            select(*_ROWS.c, literal_column(str(walk)), *BEGIN.values())
            .where(_ROWS.c.digest.not_in(select(_DROPPED.c.digest)))
            .order_by(literal_column("rowid"))  # of a file met twice the later row holds
        )
        connection.execute(updating(sqlite.insert(files).from_select([*PUT_IN, *BEGIN], rows)))

    def close(self) -> None:
        self._connection.close()


class _InFile:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: Spool[Sequence[FileRow]] = Spool()

    def put(self, rows: Sequence[FileRow]) -> None:
        self._waiting.put(rows)

    def begin(self) -> Any:
        return self._engine.begin()

    def go_in(self, connection: Connection, walk: int, dropped: set[bytes]) -> None:
        statement = upsert(connection.dialect.name)
        for rows in self._waiting.items():
            kept = [(*row, walk) for row in rows if row[0] not in dropped]
            statement.execute_plain(connection, PUT_IN, kept)

    def close(self) -> None:
        self._waiting.close()

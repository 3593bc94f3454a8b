"""A walk that reads everything in one go: its rows wait in a table of this connection alone, and go in together.

That is many times faster than row by row: the indexes are made when all rows are there. Whoever reads meanwhile
sees the catalogue as it was before. If the process is killed, the waiting rows are gone and nothing else has happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    delete,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import distinct_on

from stager.model.catalogue import ROW, FileRow
from stager.state.bulk import ManyRows
from stager.state.catalogue_rows import upsert_from
from stager.state.catalogue_schema import INDEXES, files

FEW = 10_000
"""Up to so many rows the indexes are kept while they go in."""
_DIGESTS_AT_ONCE = 500

_metadata = MetaData()
_read = Table(
    "catalogue_read",
    _metadata,
    *(Column(name, files.c[name].type, nullable=True) for name in ROW),
    prefixes=["TEMPORARY"],
)
_objects = Table(
    "catalogue_read_objects",
    _metadata,
    Column("object", LargeBinary(32), nullable=False),
    Column("restricted", Boolean, nullable=False),
    prefixes=["TEMPORARY"],
)
_READ = ManyRows(_read.insert().values({name: bindparam(name) for name in ROW}))
_OBJECT = ManyRows(_objects.insert().values(object=bindparam("object"), restricted=bindparam("restricted")))


class Rebuild:
    """What a walk has read so far. Not to be shared between threads, but for `dropped`.

    Attributes:
        dropped: digests of keys that were removed since it began: what was read of them does not count.
    """

    def __init__(self, engine: Engine) -> None:
        self._connection: Connection = engine.connect()
        self.dropped: set[bytes] = set()

    def __enter__(self) -> Self:
        for table in _metadata.sorted_tables:
            table.create(self._connection)
        self._connection.commit()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.rollback()
        self._connection.invalidate()  # its tables go with it
        self._connection.close()

    def entries(self, rows: Sequence[FileRow]) -> None:
        """The walk met these files."""
        _READ.execute_plain(self._connection, ROW, rows)
        self._connection.commit()

    def objects(self, seen: Sequence[tuple[bytes, bool]]) -> None:
        """The walk met these objects (digest, and whether it is restricted)."""
        _OBJECT.execute_plain(self._connection, ("object", "restricted"), seen)
        self._connection.commit()

    def merge(self, walk: int) -> None:
        """Put the files into the catalogue, as met by that walk; nothing happens, or all of it."""
        connection = self._connection
        if connection.dialect.name == "sqlite":  # whose driver begins none for the indexes
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        gone = list(self.dropped)
        for start in range(0, len(gone), _DIGESTS_AT_ONCE):
            some = gone[start : start + _DIGESTS_AT_ONCE]
            connection.execute(delete(_read).where(_read.c.digest.in_(some)))
        many = connection.execute(select(func.count()).select_from(_read)).scalar_one() > FEW
        for index in INDEXES if many else ():
            index.drop(connection)
        rows = select(_read, literal(walk)).where(_read.c.size >= 0)
        if connection.dialect.name == "postgresql":  # a key met in two layouts is one row
            rows = rows.ext(distinct_on(_read.c.digest))
        connection.execute(upsert_from(connection.dialect.name, rows))
        for index in INDEXES if many else ():
            index.create(connection)
        connection.commit()

    def unnamed(self, at_once: int = 1000) -> Iterator[list[tuple[str, bool]]]:
        """Of the objects that were met those that no row has, some at a time."""
        named = select(files.c.id).where(files.c.object == _objects.c.object).exists()
        found = self._connection.execute(select(_objects).where(~named))
        for rows in found.partitions(at_once):
            yield [(bytes(row.object).hex(), bool(row.restricted)) for row in rows]
        self._connection.commit()

"""Putting rows into the catalogue one change at a time: totals, and objects that lose their key, follow."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, select

from stager.model.catalogue import FileRow, Kind, row_of
from stager.state.catalogue_rows import COLUMNS, PUT_IN, cached_file, named_meanwhile, upsert
from stager.state.catalogue_schema import files
from stager.state.catalogue_totals import counted

_UNNAMED = Kind.UNNAMED.value


def put_in(connection: Connection, rows: Sequence[FileRow], walk: int) -> None:
    """Take the rows in, each of another digest; see `Catalogue.put_rows`."""
    wanted = {row[0]: row for row in rows}
    objects = [row[2] for row in wanted.values()]
    replaced = _replaced(connection, wanted)
    statement = upsert(connection.dialect.name)
    with counted(connection, list(wanted), objects):
        statement.execute_plain(connection, PUT_IN, [(*row, walk) for row in wanted.values()])
        connection.execute(named_meanwhile(objects))
        if replaced:
            left = [(*row, walk) for row in _left(connection, replaced)]
            statement.execute_plain(connection, PUT_IN, left)


def _replaced(connection: Connection, wanted: dict[bytes, FileRow]) -> dict[bytes, RowMapping]:
    """By object: the rows whose key is going to have another one."""
    query = select(*COLUMNS).where(files.c.digest.in_(list(wanted)), files.c.kind != _UNNAMED)
    found = connection.execute(query).mappings().all()
    return {
        bytes(row["object"]): row for row in found if bytes(row["object"]) != wanted[bytes(row["digest"])][2]
    }


def _left(connection: Connection, replaced: dict[bytes, RowMapping]) -> list[FileRow]:
    """The rows of those objects that no row has any more."""
    query = select(files.c.object).where(files.c.object.in_(list(replaced)))
    kept = {bytes(found) for found in connection.execute(query).scalars()}
    return [
        row_of(cached_file(row).unnamed(), former=bytes(row["digest"]).hex())
        for sha256, row in replaced.items()
        if sha256 not in kept
    ]

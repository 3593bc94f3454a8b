"""A walk that reads everything in one go: its rows wait in a file that has no name, and go in together.

That is many times faster than a piece at a time: the indexes are made when all rows are there. Whoever reads meanwhile
sees the catalogue as it was before. If the process is killed, the waiting rows are gone and nothing else has happened.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from typing import Self

from sqlalchemy import Connection

from stager.model.catalogue import FileRow
from stager.state.catalogue_rows import PUT_IN, upsert
from stager.state.catalogue_schema import INDEXES

FEW = 10_000
"""Up to so many rows the indexes are kept while they go in."""


class Rebuild:
    """What a walk has read so far.

    Attributes:
        dropped: digests of keys that were removed since it began: what was read of them does not count.
    """

    def __init__(self) -> None:
        self.dropped: set[bytes] = set()
        self._count = 0
        self._waiting = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.close()

    def entries(self, rows: Sequence[FileRow]) -> None:
        """The walk met these files.

        Raises:
            OSError: there is no room for them in the directory of temporary files.
        """
        pickle.dump(rows, self._waiting, pickle.HIGHEST_PROTOCOL)
        self._count += len(rows)

    def merge(self, connection: Connection, walk: int) -> None:
        """Put the files into the catalogue, as met by that walk, in the transaction of the caller."""
        if connection.dialect.name == "sqlite":  # whose driver begins none for the indexes
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        many = self._count > FEW
        for index in INDEXES if many else ():
            index.drop(connection)
        statement = upsert(connection.dialect.name)
        for rows in self._read():
            statement.execute_plain(
                connection, PUT_IN, [(*row, walk) for row in rows if row[0] not in self.dropped]
            )
        for index in INDEXES if many else ():
            index.create(connection)

    def _read(self) -> Iterator[Sequence[FileRow]]:
        self._waiting.seek(0)
        while True:
            try:
                yield pickle.load(self._waiting)  # noqa: S301 - our own, and nobody else has the file
            except EOFError:
                return

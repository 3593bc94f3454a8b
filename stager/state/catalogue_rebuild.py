"""A walk that reads everything in one go: its rows wait outside of the catalogue, and go in together.

That is many times faster than a piece at a time: the indexes are made when all rows are there. Whoever reads meanwhile
sees the catalogue as it was before. If the process is killed, the waiting rows are gone and nothing else has happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from stager.errors import StateError
from stager.model.catalogue import FileRow
from stager.state.catalogue_schema import INDEXES
from stager.state.catalogue_waiting import waiting_rows

FEW = 10_000
"""Up to so many rows the indexes are kept while they go in."""


class Rebuild:
    """What a walk has read so far.

    Args:
        engine: of the catalogue's database.

    Attributes:
        dropped: digests of keys that were removed since it began: what was read of them does not count.
    """

    def __init__(self, engine: Engine) -> None:
        self.dropped: set[bytes] = set()
        self._count = 0
        self._waiting = waiting_rows(engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.close()

    def entries(self, rows: Sequence[FileRow]) -> None:
        """The walk met these files.

        Raises:
            OSError, StateError: there is no room for them in the directory of temporary files.
        """
        try:
            self._waiting.put(rows)
        except SQLAlchemyError as error:
            raise StateError(
                "what was read of the cache can't be kept until all of it is read",
                cause=str(getattr(error, "orig", None) or error).splitlines()[0],
                remedy="free space in the directory of temporary files, or set SQLITE_TMPDIR to another one",
            ) from error
        self._count += len(rows)

    def merge(self, walk: int) -> None:
        """Put the files into the catalogue, as met by that walk: all of them, or none."""
        with self._waiting.begin() as connection:
            many = self._count > FEW
            for index in INDEXES if many else ():
                index.drop(connection)
            self._waiting.go_in(connection, walk, self.dropped)
            for index in INDEXES if many else ():
                index.create(connection)

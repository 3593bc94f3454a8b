"""What waits to be looked at again, in a file that has no name: however much it is, memory holds little of it."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Spool(Generic[T]):
    """Items in the order in which they were put. A kill leaves nothing of it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """What waited is gone."""
        self._file.close()

    def put(self, item: T) -> None:
        """One more, at the end.

        Raises:
            OSError: there is no room for it in the directory of temporary files.
        """
        pickle.dump(item, self._file, pickle.HIGHEST_PROTOCOL)

    def items(self) -> Iterator[T]:
        """All of them; nothing more is put."""
        self._file.seek(0)
        while True:
            try:
                yield pickle.load(self._file)  # noqa: S301 - our own, and nobody else has the file
            except EOFError:
                return

"""A file open for writing whose bytes become an object when it is closed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from hashlib import sha256
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from stager.cache.failures import cache_error
from stager.cache.files import write_all
from stager.cache.partial import Partial

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import Buffer

    Source = str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO
    """What can be put into the cache: a path, bytes, or a file open for reading."""

BLOCK_BYTES = 1 << 20
"""Bytes per write and per hashing step: calls stop counting here, and it still fits a core's cache."""


class ObjectWriter(io.BufferedIOBase):
    """Hashes on the way; holds at most one block in memory.

    `close` publishes. After an exception inside its ``with`` block, after `abort`, and when it is dropped
    without being closed, nothing is published and nothing is left.
    """

    def __init__(self, partial: Partial, publish: Callable[[Partial, str, int], None]) -> None:
        self._partial = partial
        self._publish = publish
        self._hash = sha256()
        self._buffer = bytearray()
        self._size = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._size + len(self._buffer)

    def write(self, data: Buffer, /) -> int:
        """Take all of `data`.

        Raises:
            CacheError: it can't be stored; the writer is closed and nothing is left.
            ValueError: the writer is closed.
        """
        if self.closed:
            raise ValueError("write to a closed file")
        view = memoryview(data).cast("B")
        if len(self._buffer) + len(view) < BLOCK_BYTES:
            self._buffer += view
            return len(view)
        self._drain()
        for start in range(0, len(view), BLOCK_BYTES):
            self._store(view[start : start + BLOCK_BYTES])
        return len(view)

    def close(self) -> None:
        """Publish. Idempotent.

        Raises:
            CacheError: nothing was published and nothing is left.
        """
        if self.closed:
            return
        try:
            self._drain()
            super().close()
            self._publish(self._partial, self._hash.hexdigest(), self._size)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close without publishing. Idempotent."""
        super().close()
        self._buffer.clear()
        self._partial.discard()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        if not self.closed:
            self.abort()
            warnings.warn(
                f"{self._partial.path} was not closed: nothing is published",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def _drain(self) -> None:
        if self._buffer:
            self._store(memoryview(bytes(self._buffer)))
            self._buffer.clear()

    def _store(self, block: memoryview) -> None:
        try:
            write_all(self._partial.fd, block)
        except OSError as error:
            self.abort()
            raise cache_error(error, self._partial.path, "write") from error
        self._hash.update(block)
        self._size += len(block)

"""A small body, held in memory: no partial file, no second thread."""

from __future__ import annotations

from stager.transfer.buffers import BufferPool


class HeldBody:
    """The body of one try while it is small.

    Args:
        buffers: lend the memory.

    `data` is what is here of it; None: nothing is held.
    """

    def __init__(self, buffers: BufferPool) -> None:
        self.data: memoryview | None = None
        self._buffers = buffers
        self._room: memoryview | None = None

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return 0 if self.data is None else len(self.data)

    def hold(self, whole: bytes) -> int:
        """Hold a body that came at once; its size."""
        self.data = memoryview(whole)
        return len(whole)

    def begin(self, size: int) -> memoryview:
        """Memory for a body of that size, which nothing is here of yet."""
        if self._room is None:
            self._room = self._buffers.take()
        self.data = self._room[:0]
        return self._room[:size]

    def grow(self, count: int) -> None:
        """So many bytes more are here."""
        assert self._room is not None
        self.data = self._room[: self.size + count]

    def drop(self) -> None:
        """Hold nothing. Idempotent."""
        self.data = None
        if self._room is not None:
            self._buffers.give(self._room)
            self._room = None

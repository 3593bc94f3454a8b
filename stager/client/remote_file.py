"""A file of the server that is read a block at a time, as it is needed."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable

BLOCK_BYTES = 1 << 20
"""Held and brought as one."""
HELD_BYTES = 64 << 20
"""Of one file, in memory."""
AHEAD_BYTES = 16 << 20
"""Brought at once, where a file is read in order."""


class RemoteFile(io.RawIOBase):
    """A file object over something that gives bytes of a file by their places.

    Args:
        bring: gives the bytes from one place up to, but not including, another.
        size: of the file.
        sha256: of all of it.
        name: of the file, for people.
        held_bytes: of blocks held in memory; the longest unused ones go.
        ahead_bytes: brought at once at most.
        block_bytes: of a block.

    Attributes:
        size: of the file.
        sha256: of all of it.
        name: of the file.
    """

    def __init__(
        self,
        bring: Callable[[int, int], bytes],
        size: int,
        sha256: str,
        *,
        name: str = "",
        held_bytes: int = HELD_BYTES,
        ahead_bytes: int = AHEAD_BYTES,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        super().__init__()
        self.size = size
        self.sha256 = sha256
        self.name = name
        self.closes: list[Callable[[], None]] = []
        """Called when the file is closed."""
        self._bring = bring
        self._block_bytes = block_bytes
        self._most_held = max(held_bytes // block_bytes, 1)
        self._most_ahead = max(min(ahead_bytes // block_bytes, self._most_held), 1)
        self._held: OrderedDict[int, bytes] = OrderedDict()
        self._at = 0
        self._next = 0  # the block that is read next, if it is read in order
        self._ahead = 1

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        self._check()
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there; nothing is brought yet. See `io.IOBase`."""
        self._check()
        try:
            base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        except KeyError:
            raise ValueError(f"whence {whence!r} is none of 0, 1 and 2") from None
        if base + offset < 0:
            raise ValueError(f"byte {base + offset} is before the first one")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # narrower than any buffer
        """Bytes from here to the end of their block, as many as fit; 0 at the end of the file."""
        self._check()
        view = memoryview(buffer).cast("B")
        if self._at >= self.size or not view:
            return 0
        number, offset = divmod(self._at, self._block_bytes)
        block = self._block(number)
        count = min(len(view), len(block) - offset)
        view[:count] = memoryview(block)[offset : offset + count]
        self._at += count
        return count

    def close(self) -> None:
        """Let go of what is held. Idempotent."""
        if not self.closed:
            self._held.clear()
            super().close()
            for close in self.closes:
                close()

    def _check(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")

    def _block(self, number: int) -> bytes:
        held = self._held.get(number)
        if held is not None:
            self._held.move_to_end(number)
            return held
        count = self._how_many(number)
        start = number * self._block_bytes
        data = self._bring(start, min(start + count * self._block_bytes, self.size))
        for place in range(count):
            piece = data[place * self._block_bytes : (place + 1) * self._block_bytes]
            self._held[number + place] = piece
        self._held.move_to_end(number)
        while len(self._held) > self._most_held:
            self._held.popitem(last=False)
        return self._held[number]

    def _how_many(self, number: int) -> int:
        """Blocks to bring at once: twice as many as the last time, as long as they are read in order."""
        self._ahead = min(self._ahead * 2, self._most_ahead) if number == self._next and number else 1
        last = -(-self.size // self._block_bytes)
        count = 1
        while count < self._ahead and number + count < last and number + count not in self._held:
            count += 1
        self._next = number + count
        return count

"""SHA-256 of a file while it is being written, beside the thread that writes it.

hashlib and the system calls release the interpreter lock, so hashing costs no time as long as the origin
is slower than a core. Blocks are handed over in memory. What was written before (a resumed part), and
blocks that had to be taken back because the hash fell behind, are read again from the file, which
the page cache makes cheap.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Self

from stager.model.digests import Digest
from stager.transfer.buffers import BufferPool
from stager.transfer.checksums import hasher

BUFFERS = 3
"""Of one transfer: one being filled, one being hashed, one on the way; a fourth brings nothing."""


PULSE_SECONDS = 0.25
"""Longest wait between two looks at whether to give up."""

_Block = tuple[int, memoryview, int]
"""Where in the file, buffer, bytes in it."""


class FileDigest:
    """The digest of the first bytes of the file `fd`, which grows by `add`.

    Args:
        fd: open for reading.
        size: bytes that are in place already.
        pool: where buffers come from.
        more: algorithms to compute besides SHA-256, in the same pass.

    Use as a context manager: leaving it ends the thread and gives the buffers back.
    """

    def __init__(self, fd: int, size: int, pool: BufferPool, more: Sequence[str] = ()) -> None:
        self._fd = fd
        self._written = size
        self._pool = pool
        self._hash = sha256()
        self._more = {algorithm: hasher(algorithm) for algorithm in more}
        self._position = 0
        self._error: OSError | None = None
        self._ended = False
        self._stopped = False
        self._changed = threading.Condition()
        self._pending: deque[_Block] = deque()
        self._free = [pool.take() for _ in range(BUFFERS)]
        self._scratch: memoryview | None = None
        self._thread = threading.Thread(target=self._run, name="stager-digest", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        for buffer in self._free:
            self._pool.give(buffer)
        for block in self._pending:
            self._pool.give(block[1])
        if self._scratch is not None:
            self._pool.give(self._scratch)

    def covers(self, algorithms: Iterable[str]) -> bool:
        """Whether it computes all of these."""
        return all(algorithm in self._more for algorithm in algorithms)

    @property
    def others(self) -> tuple[Digest, ...]:
        """After `result`: the other digests that it computed."""
        return tuple(Digest(name, counting.hexdigest()) for name, counting in self._more.items())

    def take(self) -> memoryview:
        """An empty buffer. Waits for one only when the hash keeps step; else takes back an unread one.

        Raises:
            OSError: the file could not be read again.
        """
        with self._changed:
            while not self._free:
                if self._error is not None:
                    raise self._error
                if self._pending and self._pending[0][0] != self._position:
                    return self._pending.popleft()[1]
                self._changed.wait()
            return self._free.pop()

    def add(self, buffer: memoryview, count: int) -> None:
        """Hand over a buffer whose first `count` bytes were written to the end of the file."""
        with self._changed:
            self._pending.append((self._written, buffer, count))
            self._written += count
            self._changed.notify()

    def found(self, count: int) -> None:
        """So many bytes more are in the file without having been handed over: they are read again."""
        with self._changed:
            self._written += count
            self._changed.notify()

    def give_back(self, buffer: memoryview) -> None:
        """Return a buffer that nobody reads any more."""
        with self._changed:
            self._free.append(buffer)
            self._changed.notify()

    def result(self, pulse: Callable[[], None]) -> str:
        """64 hexadecimal digits, over all bytes; waits until the hash has caught up.

        Args:
            pulse: called several times per second; raises to give up.

        Raises:
            OSError: the file could not be read again.
        """
        with self._changed:
            self._ended = True
            self._changed.notify()
        while self._thread.is_alive():
            self._thread.join(PULSE_SECONDS)
            pulse()
        if self._error is not None:
            raise self._error
        return self._hash.hexdigest()

    # -- the other thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except OSError as error:
            with self._changed:
                self._error = error
                self._changed.notify()

    def _step(self) -> bool:
        work = self._next()
        if work is None:
            return False
        if isinstance(work, int):
            self._catch_up(work)
        else:
            _, buffer, count = work
            self._update(buffer[:count])
            self.give_back(buffer)
        return True

    def _update(self, data: memoryview) -> None:
        self._hash.update(data)
        for counting in self._more.values():
            counting.update(data)

    def _next(self) -> _Block | int | None:
        """The block to hash now, or how many bytes to read again before the next one, or None: it is over."""
        with self._changed:
            while not self._stopped:
                first = self._pending[0][0] if self._pending else self._written
                if first != self._position:
                    return first - self._position
                if self._pending:
                    block = self._pending.popleft()
                    self._position += block[2]
                    return block
                if self._ended:
                    return None
                self._changed.wait()
            return None

    def _catch_up(self, gap: int) -> None:
        if self._scratch is None:
            self._scratch = self._pool.take()
        count = os.preadv(self._fd, [self._scratch[: min(gap, len(self._scratch))]], self._position)
        if count == 0:
            raise OSError(None, "the file is shorter than what was written to it")
        self._update(self._scratch[:count])
        with self._changed:
            self._position += count

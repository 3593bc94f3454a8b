"""Reading a whole object to find its digest, at the rate of the disk and without filling the memory with it.

What nobody has read lately comes through the page cache, since the kernel reads ahead there, and is dropped
behind us. What is in memory already is somebody's: it stays there. At a bounded rate, and whenever something
is judged, such a file is read past the memory if the file system can do that: it is the disk that is verified.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from stager.cache.pace import Pace

BLOCK_BYTES = 1 << 20
"""Per read: calls stop counting here, and the digest is computed while the kernel reads ahead."""
DIRECT_BLOCK_BYTES = 4 << 20
"""Per read past the memory, where nobody reads ahead."""
_DROP_BYTES = 16 << 20
"""So much at a time is dropped from memory behind us."""
_READ = os.O_RDONLY | os.O_CLOEXEC
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_local = threading.local()


class StoppedError(Exception):
    """Told to stop before the end of the file."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read.

    Attributes:
        sha256: of the bytes.
        size: how many.
        file: device and inode, to know the file by.
    """

    sha256: str
    size: int
    file: tuple[int, int]


class ObjectReader:
    """Reads objects, in several threads.

    Args:
        pace: how fast, all together.
        stopped: when to give up.
        told: called with the size of each block that was read.
    """

    def __init__(self, pace: Pace, stopped: threading.Event, told: Callable[[int], None]) -> None:
        self._pace = pace
        self._stopped = stopped
        self._told = told

    def read(self, path: str, *, from_disk: bool = False) -> Reading:
        """Read the file at `path` to its end.

        Args:
            path: of the file.
            from_disk: past the memory, or after having it dropped there.

        Raises:
            StoppedError: told to stop.
            OSError: it can't be read.
        """
        fd = os.open(path, _READ)
        try:
            found = os.fstat(fd)
            if from_disk:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            in_memory = not from_disk and _is_in_memory(fd)
            direct = False
            if from_disk or (in_memory and self._pace.is_bounded):
                with suppress(OSError):  # there is no such way into the file: then as it is
                    fd, direct = _reopened(fd, path), True
            if direct:
                return self._digest(fd, found, DIRECT_BLOCK_BYTES, drop=False)
            return self._digest(fd, found, BLOCK_BYTES, drop=not in_memory)
        finally:
            os.close(fd)

    def _digest(self, fd: int, found: os.stat_result, block: int, *, drop: bool) -> Reading:
        view = _buffer(block)
        digest = sha256()
        done = dropped = 0
        while True:
            if not self._pace.take(min(block, max(found.st_size - done, 0)), self._stopped):
                raise StoppedError
            count = os.preadv(fd, [view], done)
            if not count:
                break
            digest.update(view[:count])
            done += count
            self._told(count)
            if drop and done - dropped >= _DROP_BYTES:
                os.posix_fadvise(fd, dropped, done - dropped, os.POSIX_FADV_DONTNEED)
                dropped = done
            if count < block and done >= found.st_size:
                break
        if drop:
            os.posix_fadvise(fd, dropped, 0, os.POSIX_FADV_DONTNEED)
        return Reading(digest.hexdigest(), done, (found.st_dev, found.st_ino))


def _is_in_memory(fd: int) -> bool:
    """Whether its first bytes can be had without waiting for a disk or a server."""
    try:
        return bool(_NOWAIT) and os.preadv(fd, [_buffer(BLOCK_BYTES)[:1]], 0, _NOWAIT) > 0
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL}:
            return False
        raise


def _reopened(fd: int, path: str) -> int:
    """The same file, past the memory, in place of `fd`.

    Raises:
        OSError: that is impossible; `fd` stays open.
    """
    direct = os.open(path, _READ | os.O_DIRECT)
    same = os.path.samestat(os.fstat(direct), os.fstat(fd))
    os.close(fd if same else direct)
    if not same:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
    return direct


def _buffer(size: int) -> memoryview:
    """One for this thread, at the beginning of a page."""
    held: memoryview | None = getattr(_local, "buffer", None)
    if held is None or len(held) < size:
        held = _local.buffer = memoryview(mmap.mmap(-1, size))
    return held[:size]

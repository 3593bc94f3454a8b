"""Writes a body to its file in the way that costs least.

Large files on a disk of this machine are written past the page cache (O_DIRECT): that halves the processor
time per byte and leaves the memory to those who read. Everything else goes through the page cache, and the
disk is told to begin while the rest is still coming; else all of it would wait for the fsync.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

DIRECT_BYTES = 256 << 20
"""Files from this size on are written past the page cache; smaller ones a job may well find in memory."""
ALIGNMENT = 4096
"""Offset, length and address of a direct write are multiples of this on common disks."""
WRITEBACK_BYTES = 8 << 20
"""So much at a time is handed to the disk."""

_REFUSED = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
"""What file systems answer that can't write directly, or not with this alignment."""


class FileWriter:
    """Appends to an open file from `offset` on.

    Args:
        fd: open for writing; stays the caller's.
        path: of the same file.
        offset: where to begin.
        total: how long the file will be, None where that is not known.
    """

    def __init__(self, fd: int, path: Path, offset: int, total: int | None) -> None:
        self.offset = offset
        self._fd = fd
        self._handed_on = offset
        self._direct: int | None = None
        if total is not None and total - offset >= DIRECT_BYTES and _is_on_a_disk(fd):
            with suppress(OSError):  # then not
                self._direct = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)

    def append(self, data: memoryview) -> None:
        """Write `data`, which begins at the beginning of a page.

        Raises:
            OSError: not all of it was written; `offset` tells how much.
        """
        if self._direct is not None:
            data = self._append_directly(self._direct, data)
        while data:
            count = os.pwrite(self._fd, data, self.offset)
            self.offset += count
            data = data[count:]
        if self.offset - self._handed_on >= WRITEBACK_BYTES:
            if self._direct is None:
                # On Linux this starts writing the range, without waiting for it.
                os.posix_fadvise(
                    self._fd, self._handed_on, self.offset - self._handed_on, os.POSIX_FADV_DONTNEED
                )
            self._handed_on = self.offset

    def close(self) -> None:
        """Write no more. Idempotent."""
        fd, self._direct = self._direct, None
        if fd is not None:
            os.close(fd)

    def _append_directly(self, fd: int, data: memoryview) -> memoryview:
        """Write what can be written so; the rest. A stream that comes in odd pieces is slow: it needs no haste."""
        whole = len(data) - len(data) % ALIGNMENT
        count = 0
        if whole and self.offset % ALIGNMENT == 0:
            try:
                count = os.pwrite(fd, data[:whole], self.offset)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
        self.offset += count
        if count != len(data):
            self.close()
        return data[count:]


def _is_on_a_disk(fd: int) -> bool:
    """Whether the file is on a block device here: network and memory file systems have none."""
    return os.major(os.fstat(fd).st_dev) != 0

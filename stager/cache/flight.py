"""One of several processes of a host does something, and the others wait for what comes of it.

A lock of the kernel on a local disk: it is free at once when its holder is killed. As ever it only saves work.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOOK_SECONDS = 0.05
"""Between two looks whether the lock is free; the first comes much sooner."""


@contextmanager
def flight(path: Path, cancelled: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock of that name inside, in this thread alone; whether it could be had before `cancelled` said yes.

    Raises:
        OSError: the file can't be made.
    """
    fd = _take(path, cancelled)
    try:
        yield fd is not None
    finally:
        if fd is not None:
            with suppress(FileNotFoundError):
                path.unlink()  # by its holder alone; who waits for it finds that it has another file
            os.close(fd)


def _take(path: Path, cancelled: Callable[[], bool]) -> int | None:
    pause = LOOK_SECONDS / 16
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return fd
        except BlockingIOError:
            if cancelled():
                os.close(fd)
                return None
            time.sleep(pause)
            pause = min(pause * 2, LOOK_SECONDS)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)

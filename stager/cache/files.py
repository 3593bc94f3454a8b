"""Steps on one file that several protocols take."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

STALE = frozenset({errno.ESTALE, errno.EREMOTEIO})
"""What NFS answers of a file that another host replaced meanwhile; the second now and then by version 4.1."""
STALE_TRIES = 32
"""Over NFS a file that another host replaces or removes while it is looked for gives ESTALE; the next try sees what is
there now.

Three were not enough for a slow host whose every other try was too late; a mount that is broken says so at once.
"""


def unless_stale(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do `action`; again, but not for ever, while what it is about turns out to be replaced meanwhile.

    Every call by path to what another host may rename or remove just then goes through this.

    Raises:
        OSError: as `action` does.
    """
    for _ in range(STALE_TRIES - 1):
        try:
            return action(*args, **kwargs)
        except OSError as error:
            if error.errno not in STALE:
                raise
    return action(*args, **kwargs)


def is_same_file(path: str, other: str) -> bool:
    """Whether both are names of one file, which is there.

    Raises:
        OSError: the file system failed.
    """
    try:
        return unless_stale(os.path.samefile, path, other)
    except FileNotFoundError:
        return False


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however little each call takes."""
    written = os.write(fd, data)
    if written == len(data):
        return
    rest = memoryview(data)[written:]
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_directory(path: str) -> None:
    """Let the names in the directory survive a power cut, where the file system can say so.

    Raises:
        OSError: there is no such directory, or the file system failed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
    finally:
        os.close(fd)


def remove_quietly(path: str) -> None:
    """Remove a private file of ours; what can't be removed now is found by the next claim or scrub."""
    with suppress(OSError):
        unless_stale(os.unlink, path)


def is_private(path: str) -> bool:
    """Whether the file is for its owner alone, as the entry of a restricted object is."""
    try:
        return not stat.S_IMODE(os.stat(path).st_mode) & 0o077
    except OSError:
        return False

"""Removing directories that a job could write to: links are removed, never followed.

Every step starts from a directory that is open, so that it does not help to put a link in its place meanwhile.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress

from stager.cache.files import unless_stale

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How to open a directory itself, not one that a link leads to."""
_PASSES = 5
PAUSE_SECONDS = 0.05
"""An NFS client may list a directory as it was a moment ago, and keeps a name of its own for a removed file that somebody
has open there: both pass, so what is not empty is emptied again, after so long."""
NO_DIRECTORY = frozenset({errno.ENOTDIR, errno.ELOOP})
"""What `DIRECTORY` answers where there is something else."""


def remove_tree(path: str, at: int | None = None) -> None:
    """Remove what is at `path` (relative to the open directory `at`): a directory with all that is in it, or a name.

    What goes meanwhile is not missed.

    Raises:
        OSError: some of it is still there.
    """
    try:
        fd = unless_stale(os.open, path, DIRECTORY, dir_fd=at)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in NO_DIRECTORY:
            raise
        _unlink(path, at)
        return
    try:
        _empty(fd)
        for left in reversed(range(_PASSES)):
            try:
                unless_stale(os.rmdir, path, dir_fd=at)
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.ENOTEMPTY or not left:
                    raise
                time.sleep(PAUSE_SECONDS)
                _empty(fd)
            else:
                return
    finally:
        os.close(fd)


def _empty(fd: int) -> None:
    with os.scandir(fd) as found:
        items = [(item.name, item.is_dir(follow_symlinks=False)) for item in found]
    for name, is_directory in items:
        if is_directory:
            remove_tree(name, fd)
        else:
            _unlink(name, fd)


def _unlink(path: str, at: int | None) -> None:
    with suppress(FileNotFoundError):
        unless_stale(os.unlink, path, dir_fd=at)

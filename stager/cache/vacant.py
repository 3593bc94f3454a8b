"""Listing a directory that is empty or missing most of the time: asked again, it costs a look at its time.

An NFS client has to open it for that, or it may say for half a minute what was in it before.
"""

from __future__ import annotations

import os

from stager.cache.files import unless_stale
from stager.cache.fresh import refresh
from stager.clock import Clock

SETTLED_SECONDS = 2.0
"""A directory changed twice within one tick of the server's clock has one time for both; this is longer."""


class VacantDirectories:
    """Remembers directories that were empty, by the time at which they changed last.

    Args:
        clock: the time now, for comparison.
        remote: see `Tree`.
    """

    def __init__(self, clock: Clock, *, remote: bool = True) -> None:
        self._clock = clock
        self._remote = remote
        self._changed: dict[str, int] = {}

    def holds(self, directory: str, beginning: str) -> bool:
        """Whether a name in the directory begins so.

        Raises:
            OSError: it can't be read.
        """
        names = self.names(directory)
        return bool(names) and any(name.startswith(beginning) for name in names)

    def names(self, directory: str) -> list[str]:
        """What is in the directory; nothing if there is none.

        Raises:
            OSError: it can't be read.
        """
        if not self._remote:
            if not os.access(directory, os.F_OK):  # several times quicker than an exception
                return []
            try:
                return self._names(directory, directory)
            except FileNotFoundError:  # removed meanwhile
                return []
        return unless_stale(self._opened_names, directory)

    def _opened_names(self, directory: str) -> list[str]:
        fd = _open(directory)
        if fd is None and refresh(directory):
            fd = _open(directory)
        if fd is None:
            return []
        try:
            return self._names(directory, fd)
        finally:
            os.close(fd)

    def _names(self, directory: str, opened: str | int) -> list[str]:
        changed = os.stat(opened).st_mtime_ns  # before listing: what comes meanwhile changes it
        if self._changed.get(directory) == changed:
            return []
        names = os.listdir(opened)
        if not names and self._clock.time() - changed / 1e9 > SETTLED_SECONDS:
            self._changed[directory] = changed
        return names


def _open(directory: str) -> int | None:
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None

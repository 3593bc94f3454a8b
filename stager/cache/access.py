"""When was a key last used? Our own record: mounts switch atime off, or keep it only once a day.

The time is that of the entry's file. An access is noted in memory and written later, unless the file says that
somebody wrote one in the last ten minutes: one write per object in that time, by all processes and hosts
together (but for two that look in the same instant). A process that is killed loses its last minute, which
makes eviction a little less well informed.

Where this process may not write (a mount for reading, another user's entry) the access is handed on, to
somebody who may.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping

from stager.cache.files import unless_stale
from stager.cache.layout import Layout
from stager.cache.recent import Recent
from stager.cache.tree import Tree
from stager.clock import Clock
from stager.errors import CacheError

FLUSH_SECONDS = 60.0
"""Accesses of one key within this time count as one."""
APART_SECONDS = 600.0
"""Between two writes of one key's time, at least."""
PAUSE_SECONDS = 0.005
"""Longest that one look-up may be held up by writing; the rest waits for the next one."""
MAX_PENDING = 32_768
"""Keys noted and not yet written (about 7 MB)."""
_REMEMBERED = 65_536
"""Keys that need no look for a while, since they were written or handed on just now."""
_REFUSED = frozenset({errno.EROFS, errno.EPERM, errno.EACCES})

Accesses = Mapping[str, float]
"""Digest of a key → when it was used, seconds since 1970 UTC."""


def touch(tree: Tree, digest: str, when: float) -> bool:
    """Record that the key was used; False when it was recorded of late, or for later.

    A time that lies far ahead was written by a host whose clock is wrong, or ours is: the file system's own
    clock decides. Else such a file would look used for years.

    Raises:
        FileNotFoundError: no such entry.
        OSError: it could not be recorded.
        CacheError: layout.json can't be read.
    """

    def look(layout: Layout) -> bool | None:
        path = f"{tree.root}/{layout.entry(digest)}"
        try:
            recorded = unless_stale(_recorded, tree, path)
            if recorded > when + APART_SECONDS:
                unless_stale(os.utime, path)
            elif when - recorded < APART_SECONDS:
                return False
            else:
                unless_stale(os.utime, path, (when, when))
        except FileNotFoundError:
            return None
        return True

    written = tree.seek(look)
    if written is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), tree.entry(digest))
    return written


def _recorded(tree: Tree, path: str) -> float:
    if not tree.remote:
        return os.stat(path).st_mtime
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a client may have kept the status for a minute
    try:
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)


class AccessTimes:
    """Notes accesses and writes them later.

    Args:
        touch: writes one, given a key's digest and seconds since 1970 UTC; False when that was not necessary.
        clock: the time.

    Attributes:
        told: called with what was written; must be quick and must not raise.
        refused: called with what may not be written by this process; likewise. None: nobody wants it.
    """

    def __init__(self, touch: Callable[[str, float], bool], clock: Clock) -> None:
        self.told: Callable[[Accesses], None] | None = None
        self.refused: Callable[[Accesses], None] | None = None
        self._touch = touch
        self._clock = clock
        self._pending: dict[str, float] = {}
        self._settled: Recent[float] = Recent(_REMEMBERED)
        self._due = clock.monotonic() + FLUSH_SECONDS

    def note(self, digest: str, now: float) -> None:
        """The key was used; `now` is a reading of the monotonic clock."""
        pending = self._pending
        if digest not in pending:
            pending[digest] = self._clock.time()
        if now >= self._due or len(pending) > MAX_PENDING:
            self.flush(PAUSE_SECONDS)

    def used(self, digests: Iterable[str]) -> None:
        """The same for several keys, by somebody who can't wait; more than there is room for are forgotten."""
        now = self._clock.time()
        for digest in digests:
            if len(self._pending) < MAX_PENDING:
                self._pending.setdefault(digest, now)

    def forget(self, digest: str) -> None:
        """The key is gone."""
        self._pending.pop(digest, None)

    def flush_if_due(self) -> None:
        """Write what is noted if the last time was a minute ago."""
        if self._clock.monotonic() >= self._due:
            self.flush()

    def flush(self, seconds: float = 1.0) -> None:
        """Write what is noted, for at most that long."""
        pending = self._pending
        written: dict[str, float] = {}
        refused: dict[str, float] = {}
        end = self._clock.monotonic() + seconds
        while pending and self._clock.monotonic() <= end:
            try:
                digest, when = pending.popitem()
            except KeyError:  # another thread wrote the last one
                break
            if when - (self._settled.get(digest) or 0.0) < APART_SECONDS:
                continue
            try:
                if self._touch(digest, when):
                    written[digest] = when
            except OSError as error:
                if error.errno in _REFUSED:
                    refused[digest] = when
                elif not isinstance(
                    error, FileNotFoundError
                ):  # removed meanwhile; else the file system fails
                    pending.clear()
                    break
            except CacheError:
                pending.clear()
                break
            self._settled.set(digest, when)
        if not pending:
            self._due = self._clock.monotonic() + FLUSH_SECONDS
        if written and self.told is not None:
            self.told(written)
        if refused and self.refused is not None:
            self.refused(refused)

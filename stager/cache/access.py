"""When was a key last used? Our own record: mounts switch atime off, or keep it only once a day.

An access is noted in memory and written later, to the time of the entry's file, at most once a minute per
key. A process that is killed loses its last minute, which makes eviction a little less well informed.
"""

from __future__ import annotations

from collections.abc import Callable

from stager.clock import Clock

FLUSH_SECONDS = 60.0
"""Accesses of one key within this time count as one."""
PAUSE_SECONDS = 0.005
"""Longest that one look-up may be held up by writing; the rest waits for the next one."""
MAX_PENDING = 32_768
"""Keys noted and not yet written (about 7 MB)."""


class AccessTimes:
    """Notes accesses; `touch` writes one, given a key's digest and seconds since 1970 UTC."""

    def __init__(self, touch: Callable[[str, float], None], clock: Clock) -> None:
        self._touch = touch
        self._clock = clock
        self._pending: dict[str, float] = {}
        self._due = clock.monotonic() + FLUSH_SECONDS

    def note(self, digest: str, now: float) -> None:
        """The key was used; `now` is a reading of the monotonic clock."""
        pending = self._pending
        if digest not in pending:
            pending[digest] = self._clock.time()
        if now >= self._due or len(pending) > MAX_PENDING:
            self.flush(PAUSE_SECONDS)

    def forget(self, digest: str) -> None:
        """The key is gone."""
        self._pending.pop(digest, None)

    def flush(self, seconds: float = 1.0) -> None:
        """Write what is noted, for at most that long."""
        pending = self._pending
        end = self._clock.monotonic() + seconds
        while pending and self._clock.monotonic() <= end:
            try:
                digest, when = pending.popitem()
            except KeyError:  # another thread wrote the last one
                break
            try:
                self._touch(digest, when)
            except FileNotFoundError:  # removed meanwhile
                continue
            except OSError:  # read-only for us: whoever may write keeps the times
                pending.clear()
        if not pending:
            self._due = self._clock.monotonic() + FLUSH_SECONDS

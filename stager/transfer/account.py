"""What a try says of how far it is: to whoever waits for it, and to those who share the room with it."""

from __future__ import annotations

from collections.abc import Callable

from stager.cache.space import Space
from stager.clock import Clock

REPORT_SECONDS = 0.1
"""Least time between two reports."""
ProgressReport = Callable[[int, int | None, int], None]
"""Bytes in place, of how many (None: not known), offset at which this try went on."""


class Account:
    """Of one try.

    Args:
        fetch: id of the fetch.
        space: the room of the cache.
        progress: who wants to know.
        clock: the time.
        started: when the try began, on the monotonic clock.

    `promised` is the size for which space was reserved, None before; `resumed_from` where the try went on, None
    while that is not known.
    """

    def __init__(
        self, fetch: str, space: Space, progress: ProgressReport | None, clock: Clock, started: float
    ) -> None:
        self.promised: int | None = None
        self.resumed_from: int | None = None
        self._fetch = fetch
        self._space = space
        self._progress = progress
        self._clock = clock
        self._reported = started

    def begin(self, offset: int) -> None:
        """A body goes on from there; if that is earlier than it was, that is where the try began."""
        if self.resumed_from is None or offset < self.resumed_from:
            self.resumed_from = offset

    def reserve(self, total: int | None, in_place: int) -> None:
        """Have room for the rest of a file of `total` bytes, if that is known.

        Raises:
            CacheFullError: there is none.
            CacheTooSmallError: nor can there ever be.
        """
        if total is not None:
            self._space.reserve(self._fetch, total - in_place, total)
            self.promised = total

    def report(self, in_place: int, total: int | None) -> None:
        """Tell, if it is time to."""
        now = self._clock.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        if self.promised is not None:
            self._space.written(self._fetch, self.promised - in_place)
        if self._progress is not None:
            self._progress(in_place, total, self.resumed_from or 0)

    def close(self) -> None:
        """Nothing more is to come."""
        if self.promised is not None:
            self._space.release(self._fetch)

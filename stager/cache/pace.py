"""No faster than so many bytes per second, over all threads together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BURST_SECONDS = 0.1
"""What was not used in the last moments may be used now, so that a late thread does not slow down the whole."""


class Pace:
    """A token bucket, told by when it is empty.

    Args:
        bytes_per_second: None: as fast as can be.
        now: a clock that never jumps.
    """

    def __init__(self, bytes_per_second: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = bytes_per_second
        self._now = now
        self._lock = threading.Lock()
        self._free_at = now()

    @property
    def is_bounded(self) -> bool:
        """Whether there is a limit."""
        return self._rate is not None

    def take(self, size: int, stopped: threading.Event) -> bool:
        """Wait until `size` more bytes may be read; False when `stopped` is set before."""
        if self._rate is None:
            return not stopped.is_set()
        with self._lock:
            now = self._now()
            self._free_at = max(self._free_at, now - BURST_SECONDS) + size / self._rate
            wait = self._free_at - now
        return not (stopped.wait(wait) if wait > 0 else stopped.is_set())

"""Time as a port, so that tests move it by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that people read, one that never jumps."""

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC; may jump when the host's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds since some start; never jumps, not comparable between processes."""
        ...


class SystemClock:
    """The host's clocks."""

    def time(self) -> float:
        """See `Clock.time`."""
        return time.time()

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: float = 1_000_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        """See `Clock.time`."""
        return self.now

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self.now += seconds

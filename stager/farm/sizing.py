"""How many threads a process that fetches should have, found by trying. Pure: readings in, a number out."""

from __future__ import annotations

from dataclasses import dataclass

BUSY = 0.75
"""Share of its time that a process computes, above which another thread would only wait for the interpreter."""
CROWDED = 1.4
"""The same share, in cores, from which on the threads mostly stand in each other's way."""
GAIN = 1.08
"""Least growth of throughput that pays for twice the threads; less is noise."""
HOLD = 20
"""Readings for which a size that proved best is kept before a larger one is tried again."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a process measured since the last reading.

    Attributes:
        wall: seconds that passed.
        cpu: seconds that its threads computed, or wanted to.
        done: files that were completed.
    """

    wall: float
    cpu: float
    done: int


class Sizing:
    """Doubles the threads while the process mostly waits and throughput grows with them; otherwise steps back.

    One thread is best for small files from a near origin, since threads share one interpreter;
    many are best for a far one, or where storing a file means waiting for a disk.

    Args:
        most: upper bound.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.size = 1
        self._before: float | None = None  # throughput before the last growth, while it is on trial
        self._hold = 0

    def read(self, reading: Reading) -> int:
        """The number of threads from now on."""
        rate = reading.done / reading.wall
        if self._before is not None:
            failed = reading.done > 0 and rate < self._before * GAIN
            self._before = None
            if failed:
                self.size //= 2
                self._hold = HOLD
        elif self._hold:
            self._hold -= 1
        if self.size > 1 and reading.cpu > CROWDED * reading.wall:
            self.size //= 2
            self._hold = HOLD
        if not self._hold and self.size < self._most and reading.cpu < BUSY * reading.wall:
            self._before = rate
            self.size = min(self.size * 2, self._most)
        return self.size

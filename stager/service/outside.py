"""Objects that no eviction can free, since they have another name outside of the cache (`stager cache import --link`).

They are soon the longest unused. Without this memory every look at the limits would ask the file system for each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Self

from stager.clock import Clock

HALF_SECONDS = 1800.0
"""They are remembered for between so long and twice so long."""
MANY = 500
"""It is cheaper to look at fewer each time than to find out who holds them."""
MOST = 1_000_000
"""At most so many of each half hour: some 100 MB."""
File = tuple[int, int]
"""Device and inode."""


class Outside:
    """What was found of late.

    Args:
        inside: the files that jobs and pins hold, which costs as much as those are.
        clock: the time.
    """

    def __init__(self, inside: Callable[[], Collection[File]], clock: Clock) -> None:
        self._ask = inside
        self._clock = clock
        self._held: list[tuple[str, File]] = []
        self._since = clock.monotonic()
        self._now: set[int] = set()
        self._before: set[int] = set()

    def begin(self) -> Self:
        """An eviction begins."""
        self._held = []
        passed = self._clock.monotonic() - self._since
        if passed >= HALF_SECONDS:
            self._before = self._now if passed < 2 * HALF_SECONDS else set()
            self._now = set()
            self._since = self._clock.monotonic()
        return self

    def note(self, sha256: str, file: File) -> None:
        """The object is held. Of many such those are remembered that no job or pin holds, which may soon be over."""
        self._held.append((sha256, file))
        if len(self._held) < MANY:
            return
        held, self._held = self._held, []
        with suppress(OSError):  # who holds what can't be told: then they are looked at again
            inside = self._ask()
            outside = [sha256 for sha256, file in held if file not in inside]
            self._now.update(map(_part, outside[: MOST - len(self._now)]))

    def __contains__(self, sha256: str) -> bool:
        part = _part(sha256)
        return part in self._now or part in self._before


def _part(sha256: str) -> int:
    """Enough of the digest to tell a million objects apart."""
    return int(sha256[:15], 16)

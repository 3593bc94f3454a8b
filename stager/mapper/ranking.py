"""Things in the order of a key that changes."""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, Self, TypeVar


class _Key(Protocol):
    def __lt__(self, other: Self, /) -> bool: ...


K = TypeVar("K", bound=_Key)
T = TypeVar("T")


class Ranking(Generic[K, T]):
    """A heap in which each thing has one place, the one it was put at last.

    Places left are skipped when they come up, so that a change costs O(log n); they are cleared away
    before they outnumber those that count.
    """

    __slots__ = ("_heap", "_keys", "_serial")

    def __init__(self) -> None:
        self._keys: dict[T, K] = {}
        self._heap: list[tuple[K, int, T]] = []  # the number keeps things from being compared
        self._serial = 0

    def __contains__(self, thing: T) -> bool:
        return thing in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, thing: T, key: K) -> bool:
        """Put it at `key`, wherever it was before; False when it is there already."""
        if self._keys.get(thing) == key:
            return False
        self._keys[thing] = key
        self._serial += 1
        heapq.heappush(self._heap, (key, self._serial, thing))
        if len(self._heap) > 2 * len(self._keys) + 16:
            self._heap = [(k, n, t) for n, (t, k) in enumerate(self._keys.items())]
            heapq.heapify(self._heap)
        return True

    def drop(self, thing: T) -> None:
        """Take it out, if it is in."""
        self._keys.pop(thing, None)

    def first(self) -> tuple[K, int, T] | None:
        """The lowest key, a number and the thing that has it; None when there is none."""
        while self._heap:
            place = self._heap[0]
            if self._keys.get(place[2]) == place[0]:
                return place
            heapq.heappop(self._heap)
        return None

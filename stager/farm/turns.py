"""Whose turn is next: higher priority first, then first come; at most so many at once per origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Id = TypeVar("Id", bound=Hashable)


class Turns(Generic[Id]):
    """Ids wait here for a seat. Pure: no threads, no time.

    An id whose origin has no seat left steps aside into that origin's own queue, so that a full
    origin neither blocks the others nor is looked at again before it has a seat.

    Args:
        seats: how many may be seated in all.
        per_origin: how many of one origin.
    """

    def __init__(self, seats: int, per_origin: int) -> None:
        # A place in a queue: priority (negative: heaps give the smallest), number of arrival, id, origin.
        self._free = seats
        self._per_origin = per_origin
        self._number = count()
        self._ready: list[tuple[int, int, Id, str]] = []
        self._aside: dict[str, list[tuple[int, int, Id, str]]] = {}
        self._waiting: dict[
            Id, tuple[int, int, Id, str]
        ] = {}  # a place in a queue counts only if it is the one here
        self._seated: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def __contains__(self, item: Id) -> bool:
        """Whether `item` waits."""
        return item in self._waiting

    def add(self, item: Id, origin: str, priority: int = 0) -> None:
        """Let `item` wait; if it waits already, it keeps its place in time and takes the new priority."""
        known = self._waiting.get(item)
        place = (-priority, known[1] if known else next(self._number), item, origin)
        self._waiting[item] = place
        heappush(self._ready, place)

    def discard(self, item: Id) -> None:
        """`item` no longer waits."""
        self._waiting.pop(item, None)

    def next(self) -> Id | None:
        """Seat the next one, or None when none can be seated now."""
        while self._free and self._ready:
            place = heappop(self._ready)
            _, _, item, origin = place
            if self._waiting.get(item) is not place:
                self._recall(origin)
            elif self._seated[origin] >= self._per_origin:
                heappush(self._aside.setdefault(origin, []), place)
            else:
                del self._waiting[item]
                self._seated[origin] += 1
                self._free -= 1
                return item
        return None

    def leave(self, origin: str) -> None:
        """One that was seated for `origin` leaves."""
        self._free += 1
        self._seated[origin] -= 1
        if not self._seated[origin]:
            del self._seated[origin]
        self._recall(origin)

    def _recall(self, origin: str) -> None:
        """Let the best of those that stepped aside for `origin` be looked at again."""
        aside = self._aside.get(origin)
        if aside:
            heappush(self._ready, heappop(aside))
            if not aside:
                del self._aside[origin]

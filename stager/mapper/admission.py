"""Which fetch goes next: by priority, then by age, within the limits of each origin.

Pure bookkeeping: it is told what waits and what ended, and picks.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass


@dataclass(slots=True)
class _Waiting:
    origin: str
    key: str
    priority: int
    serial: int
    not_before: float


class Admission:
    """The queue of fetches.

    Args:
        slots: fetches that may run at once.
        per_origin: fetches that may run at once from one origin.

    No two fetches of one key run at once: the second is let go when the first has ended, and then
    usually finds its bytes in the cache.
    """

    def __init__(self, *, slots: int, per_origin: int) -> None:
        self.slots = slots
        self.per_origin = per_origin
        self._waiting: dict[str, _Waiting] = {}
        self._running: dict[str, tuple[str, str]] = {}  # fetch → (origin, key)
        self._per_origin: dict[str, int] = {}
        self._busy_keys: dict[str, list[str]] = {}  # key that runs → fetches that wait for its end
        self._ripe: dict[str, list[tuple[int, int, str]]] = {}  # origin → heap of (-priority, serial, fetch)
        self._later: list[tuple[float, int, str]] = []
        self._serial = 0

    def __contains__(self, fetch: str) -> bool:
        return fetch in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Fetches let go and not yet ended."""
        return len(self._running)

    def add(self, fetch: str, *, origin: str, key: str, priority: int, not_before: float = 0.0) -> None:
        """Queue a fetch; it is not picked before the time `not_before` (seconds, the caller's clock)."""
        self._serial += 1
        item = _Waiting(origin, key, priority, self._serial, not_before)
        self._waiting[fetch] = item
        if not_before > 0.0:
            heapq.heappush(self._later, (not_before, item.serial, fetch))
        else:
            self._push(fetch, item)

    def lift(self, fetch: str, priority: int) -> None:
        """Raise the priority of a queued fetch (a lower one changes nothing)."""
        item = self._waiting.get(fetch)
        if item is None or priority <= item.priority:
            return
        item.priority = priority
        if item.not_before <= 0.0:
            self._push(fetch, item)

    def remove(self, fetch: str) -> None:
        """Take a fetch out of the queue."""
        self._waiting.pop(fetch, None)  # its places in the heaps are skipped when they come up

    def ended(self, fetch: str) -> None:
        """A fetch that was picked has ended, however it ended."""
        place = self._running.pop(fetch, None)
        if place is None:
            return
        origin, key = place
        left = self._per_origin[origin] - 1
        if left:
            self._per_origin[origin] = left
        else:
            del self._per_origin[origin]
        for other in self._busy_keys.pop(key, ()):
            item = self._waiting.get(other)
            if item is not None:
                self._push(other, item)

    def resume(self, fetch: str, *, origin: str, key: str) -> None:
        """A fetch that was let go before the last start runs still."""
        self._running[fetch] = (origin, key)
        self._per_origin[origin] = self._per_origin.get(origin, 0) + 1
        self._busy_keys.setdefault(key, [])

    def pick(self, now: float) -> list[str]:
        """The fetches to start now; each counts as running until `ended`."""
        while self._later and self._later[0][0] <= now:
            _, serial, fetch = heapq.heappop(self._later)
            item = self._waiting.get(fetch)
            if item is not None and item.serial == serial:
                item.not_before = 0.0
                self._push(fetch, item)
        picked: list[str] = []
        while len(self._running) < self.slots:
            fetch_id = self._best()
            if fetch_id is None:
                break
            picked.append(fetch_id)
        return picked

    def next_time(self) -> float | None:
        """When a fetch that is held back may be picked; None when none is."""
        while self._later:
            at, serial, fetch = self._later[0]
            item = self._waiting.get(fetch)
            if item is not None and item.serial == serial:
                return at
            heapq.heappop(self._later)
        return None

    def _push(self, fetch: str, item: _Waiting) -> None:
        heapq.heappush(self._ripe.setdefault(item.origin, []), (-item.priority, item.serial, fetch))

    def _best(self) -> str | None:
        best: tuple[int, int, str] | None = None
        for origin in list(self._ripe):
            if self._per_origin.get(origin, 0) >= self.per_origin:
                continue
            head = self._head(origin)
            if head is not None and (best is None or head < best):
                best = head
        if best is None:
            return None
        fetch = best[2]
        item = self._waiting.pop(fetch)
        heapq.heappop(self._ripe[item.origin])
        self._running[fetch] = (item.origin, item.key)
        self._per_origin[item.origin] = self._per_origin.get(item.origin, 0) + 1
        self._busy_keys[item.key] = []
        return fetch

    def _head(self, origin: str) -> tuple[int, int, str] | None:
        """First fetch of the origin that may start; places that are out of date are dropped on the way."""
        heap = self._ripe[origin]
        while heap:
            priority, serial, fetch = heap[0]
            item = self._waiting.get(fetch)
            if item is None or item.serial != serial or -priority != item.priority:
                heapq.heappop(heap)
            elif item.key in self._busy_keys:
                heapq.heappop(heap)
                self._busy_keys[item.key].append(fetch)
            else:
                return heap[0]
        del self._ripe[origin]
        return None

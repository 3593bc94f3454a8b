"""Who goes next: owners at par, their lines, and the origins that have a seat free.

The machinery of the rules that `stager.mapper.admission` states. Pure.

Nothing is moved about when an origin has no seat left, as an origin in demand never has: what can't start
is put aside only when its turn comes, and brought back when the origin has a seat again.
"""

from __future__ import annotations

import heapq
from functools import lru_cache

from stager.mapper.origins import Origin
from stager.mapper.queues import Entry, Line, OriginQueue, Owner
from stager.mapper.ranking import Ranking

ORIGINS_REMEMBERED = 10_000
"""Origins without work of which what was learnt is kept."""
_HAIR = 1e-6
"""Points of priority by which rounding may hide that a fetch is at par."""


@lru_cache(maxsize=1024)  # what is wanted at one moment shares the number: a million of them would be 32 MB
def _rank(since: float, priority: int, ageing_seconds: float) -> float:
    return since / ageing_seconds - priority


class Order:
    """Fetches that wait, by owner and origin.

    Args:
        per_origin: seats at once from one origin, at most.
        ageing_seconds: a fetch that waits this long gains one point of priority.
        small_bytes: what counts as a small file.
    """

    def __init__(self, *, per_origin: int, ageing_seconds: float, small_bytes: int) -> None:
        self.waiting: dict[str, Entry] = {}
        self.busy_keys: dict[str, list[Entry]] = {}
        """Key that runs → fetches that wait for its end."""
        self.origins: dict[str, OriginQueue] = {}
        self.now = 0.0
        """The latest time heard of: ranks must not fall when a clock is put back."""
        self.small_only = False
        self._per_origin = per_origin
        self._ageing_seconds = ageing_seconds
        self._small_bytes = small_bytes
        self._owners: dict[str, Owner] = {}
        self._idle: dict[str, None] = {}  # origins without work, the one that had some last at the end
        self._pool: Ranking[tuple[int, int], Owner] = Ranking()  # owners that may be at par
        self._below: Ranking[float, Owner] = Ranking()  # owners that were not when they were looked at
        self._open: Ranking[int, OriginQueue] = Ranking()  # by the highest priority that waits
        self._serial = 0

    def next_serial(self) -> int:
        """Numbers everything that has an order in time."""
        self._serial += 1
        return self._serial

    # -- in and out -----------------------------------------------------------------------------

    def line(self, owner_name: str, origin_name: str) -> Line:
        """Where a fetch of this owner waits for this origin."""
        owner = self._owners.get(owner_name)
        if owner is None:
            owner = self._owners[owner_name] = Owner(owner_name, self.next_serial())
        line = owner.lines.get(origin_name)
        if line is None:
            line = owner.lines[origin_name] = Line(owner, self._queue(origin_name))
        return line

    def make(self, fetch: str, key: str, priority: int, since: float, line: Line) -> Entry:
        """Take a fetch in; `push` follows when it may start."""
        self.now = max(self.now, since)
        rank = _rank(since, priority, self._ageing_seconds)
        entry = self.waiting[fetch] = Entry(rank, self.next_serial(), fetch, key, priority, line)
        line.waiting += 1
        line.origin.waiting += 1
        return entry

    def push(self, entry: Entry) -> None:
        """The fetch may start when its turn comes."""
        line = entry.line
        heapq.heappush(line.heap, entry)
        if line.heap[0] is entry:
            self.look_at(line)

    def remove(self, entry: Entry) -> None:
        """Take a fetch out, wherever it is."""
        line = entry.line
        was_first = bool(line.heap) and line.heap[0] is entry
        self._take(entry)
        if was_first or not line.waiting:
            self.look_at(line)  # other places in heaps are skipped when they come up

    def pop(self, entry: Entry) -> None:
        """Take out what is first in its line; `look_at` the line afterwards."""
        heapq.heappop(entry.line.heap)
        self._take(entry)

    def _take(self, entry: Entry) -> None:
        del self.waiting[entry.fetch]
        entry.line.waiting -= 1
        entry.line.origin.waiting -= 1

    # -- the choice -----------------------------------------------------------------------------

    def best(self) -> tuple[Entry | None, float]:
        """The fetch that goes next, if one can, and what is at par (an `Entry.rank` up to this)."""
        top = self._top()
        if top is None:
            return None, 0.0
        par = self.now / self._ageing_seconds - top + _HAIR
        while (low := self._below.first()) is not None and low[0] <= par:
            self._below.drop(low[2])
            self.stir(low[2])
        while (place := self._pool.first()) is not None:
            owner = place[2]
            entry = self._first_of(owner)
            if entry is not None and entry.rank <= par:
                return entry, par
            self._pool.drop(owner)
            if entry is not None:
                self._below.put(owner, entry.rank)
        return None, par

    def _top(self) -> int | None:
        """The highest priority of a fetch that stands first in a line of an origin with a seat free."""
        while (place := self._open.first()) is not None:
            known, _, queue = place
            highest = queue.tops.first()
            if highest is None or not self.is_open(queue):
                self._open.drop(queue)
                continue
            top, _, line = highest
            entry = self.first(line)
            if entry is None or -entry.priority != top:
                self.look_at(line)
            elif known != top:
                self._open.put(queue, top)
            else:
                return entry.priority
        return None

    def _first_of(self, owner: Owner) -> Entry | None:
        """The first fetch of an owner; lines of origins without a seat are put aside on the way."""
        while (place := owner.ranking.first()) is not None:
            known, _, line = place
            if not self.is_open(line.origin):
                owner.ranking.drop(line)
                line.parked = True
                line.origin.parked.append(line)
            elif (entry := self.first(line)) is not known:
                self.look_at(line)
            else:
                return entry
        return None

    def first(self, line: Line) -> Entry | None:
        """The first fetch of a line that may start; places that are out of date are dropped on the way."""
        heap = line.heap
        while heap:
            entry = heap[0]
            if self.waiting.get(entry.fetch) is not entry:
                heapq.heappop(heap)
            elif entry.key in self.busy_keys:
                heapq.heappop(heap)
                self.busy_keys[entry.key].append(entry)
            else:
                return entry
        return None

    # -- keeping the rankings right -------------------------------------------------------------

    def look_at(self, line: Line) -> None:
        """Its first fetch may be another one: rank it anew; a line in which nobody waits goes."""
        entry, queue, owner = self.first(line), line.origin, line.owner
        if entry is None:
            queue.tops.drop(line)
            owner.ranking.drop(line)
            if not line.waiting:
                self._close(line)
            return
        if queue.tops.put(line, -entry.priority):
            self._offer(queue)
        if not line.parked:
            owner.ranking.put(line, entry)
            self.stir(owner)

    def stir(self, owner: Owner) -> None:
        """Something changed for the owner: it is looked at again when its turn comes."""
        if len(owner.ranking):
            self._below.drop(owner)
            self._pool.put(owner, (owner.in_flight, owner.served))

    def reopen(self, queue: OriginQueue) -> None:
        """The origin may have a seat again."""
        if (not queue.parked and queue in self._open) or not self.is_open(queue):
            return
        parked, queue.parked = queue.parked, []
        for line in parked:
            line.parked = False
            self.look_at(line)
        self._offer(queue)

    def reopen_all(self) -> None:
        """Every origin may have a seat again."""
        for queue in list(self.origins.values()):
            self.reopen(queue)

    def is_open(self, queue: OriginQueue) -> bool:
        """Whether a seat may begin."""
        origin = queue.state
        return (
            origin.in_flight < origin.limit and not queue.paused and (not self.small_only or origin.is_small)
        )

    def _offer(self, queue: OriginQueue) -> None:
        highest = queue.tops.first()
        if highest is not None and self.is_open(queue):
            self._open.put(queue, highest[0])

    # -- what has work --------------------------------------------------------------------------

    def _queue(self, name: str) -> OriginQueue:
        queue = self.origins.get(name)
        if queue is None:
            origin = Origin(name, maximum=self._per_origin, small_bytes=self._small_bytes)
            queue = self.origins[name] = OriginQueue(origin)
        self._idle.pop(name, None)
        return queue

    def _close(self, line: Line) -> None:
        lines, name = line.owner.lines, line.origin.state.name
        if lines.get(name) is line:
            del lines[name]
            self.forget(line.owner, line.origin)

    def forget(self, owner: Owner, queue: OriginQueue) -> None:
        """If they have no work: the owner; of such origins, those that had it longest ago."""
        if not owner.lines and not owner.in_flight:
            self._pool.drop(owner)
            self._below.drop(owner)
            if self._owners.get(owner.name) is owner:
                del self._owners[owner.name]
        if not queue.waiting and not queue.state.in_flight:
            self._idle[queue.state.name] = None
            while len(self._idle) > ORIGINS_REMEMBERED:
                name = next(iter(self._idle))
                del self._idle[name], self.origins[name]

"""Which fetches go next, and which of them together.

The queue itself is in the database; this is its order in memory, of which only so much is let go as
there are seats. A *seat* is one connection's worth of work: one fetch, or some small ones of one
origin, done one after the other by one worker.

**The order.** A fetch has a *rank*: its priority, and one point more for each `ageing_seconds` since it
was first wanted.

1. Of the fetches of one owner the one of the highest rank goes first; among equals, the oldest.
2. Owners are *at par* whose first fetch has a rank that reaches the highest priority waiting (of those
   that stand first in their owner's line for an origin that has a seat free). Age counts no further
   than that: a queue that is old is not better than the best of the new ones, only as good.
3. Of the owners at par, the one with the fewest seats goes next; among equals, the one whose last turn
   is longest ago. Whoever is new comes after those who wait already.

So priority goes before fairness, as long as nobody waits longer than the difference of priorities
times `ageing_seconds`; at one priority every owner has as many seats as every other that has something
to fetch, however much it is; and what an owner sorts by priority stays sorted.

**The limits.** `slots` seats at once; for each origin as many as it copes with
(`stager.mapper.origins`), none while it has asked us to wait; one fetch of a key at a time: the second
is let go when the first has ended, and then usually finds its bytes in the cache. What can't start for
one of these reasons holds up nobody else.

**Seats of several.** A seat is filled from the line of its first fetch, with fetches at par. One that
failed before goes alone: it may hold up those behind it again.

**A full cache** holds back all fetches but those from origins whose files are known to be small.

Pure. A pick costs O(log n) in what waits, not a pass over fetches, origins or owners.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from stager.errors import FetchError, StagerError
from stager.mapper.order import Order
from stager.mapper.queues import Entry, OriginQueue, Seat
from stager.model.views import OriginView


class Admission:
    """The queue of fetches.

    Args:
        slots: seats at once.
        per_origin: seats at once from one origin, at most.
        ageing_seconds: a fetch that waits this long gains one point of priority.
        batch: fetches in one seat, at most.
        small_bytes: files up to this size share a seat.
        longest_pause_seconds: cap of a Retry-After.
    """

    def __init__(
        self,
        *,
        slots: int,
        per_origin: int,
        ageing_seconds: float = 60.0,
        batch: int = 1,
        small_bytes: int = 1 << 20,
        longest_pause_seconds: float = 300.0,
    ) -> None:
        self.slots = slots
        self.per_origin = per_origin
        self.batch = batch
        self._longest_pause_seconds = longest_pause_seconds
        self._order = Order(per_origin=per_origin, ageing_seconds=ageing_seconds, small_bytes=small_bytes)
        self._held: dict[str, int] = {}  # fetch that is held back → number of its entry
        self._alone: set[str] = set()
        self._running: dict[str, tuple[Seat, str]] = {}  # fetch → its seat and key
        self._seats = 0
        self._later: list[tuple[float, int, str]] = []
        self._pauses: list[tuple[float, int, OriginQueue | None]] = []  # None: that of a full cache
        self._full_until = 0.0
        self._paused_until = 0.0

    def __contains__(self, fetch: str) -> bool:
        return fetch in self._order.waiting

    def __len__(self) -> int:
        return len(self._order.waiting)

    @property
    def running(self) -> int:
        """Fetches let go and not yet ended."""
        return len(self._running)

    @property
    def let_go(self) -> list[str]:
        """Fetches let go and not yet ended, those first that were let go first."""
        return list(self._running)

    def is_running(self, fetch: str) -> bool:
        """Whether the fetch was let go and has not ended."""
        return fetch in self._running

    # -- what waits -----------------------------------------------------------------------------

    def add(
        self,
        fetch: str,
        *,
        origin: str,
        key: str,
        priority: int,
        owner: str = "",
        since: float = 0.0,
        not_before: float = 0.0,
        alone: bool = False,
    ) -> None:
        """Queue a fetch.

        Args:
            fetch: its id.
            origin: where it comes from.
            key: cache key.
            priority: higher goes first.
            owner: in whose share it counts.
            since: when it was first wanted (seconds, the caller's clock).
            not_before: it is held back until then.
            alone: it shares no seat.
        """
        self.remove(fetch)
        entry = self._order.make(fetch, key, priority, since, self._order.line(owner, origin))
        if alone:
            self._alone.add(fetch)
        if not_before > 0.0:
            self._held[fetch] = entry.serial
            heapq.heappush(self._later, (not_before, entry.serial, fetch))
        else:
            self._order.push(entry)

    def lift(self, fetch: str, priority: int) -> None:
        """Raise the priority of a queued fetch (a lower one changes nothing)."""
        old = self._order.waiting.get(fetch)
        if old is None or priority <= old.priority:
            return
        entry = old._replace(rank=old.rank - (priority - old.priority), priority=priority)
        self._order.waiting[fetch] = entry
        if fetch not in self._held:
            self._order.push(entry)

    def remove(self, fetch: str) -> None:
        """Take a fetch out of the queue."""
        entry = self._order.waiting.get(fetch)
        if entry is not None:
            self._held.pop(fetch, None)
            self._alone.discard(fetch)
            self._order.remove(entry)

    def resume(self, fetch: str, *, origin: str, key: str, owner: str = "") -> None:
        """A fetch that was let go before the last start runs still: it has a seat, whatever the limits."""
        line = self._order.line(owner, origin)
        self._begin(Seat(line.owner, line.origin), fetch, key)
        self._order.look_at(line)

    # -- what ended -----------------------------------------------------------------------------

    def ended(
        self, fetch: str, *, size: int | None = None, error: StagerError | None = None, now: float = 0.0
    ) -> None:
        """A fetch that was picked has ended: with a file of `size` bytes, with `error`, or unheard of."""
        if fetch not in self._running:
            return
        seat, key = self._running.pop(fetch)
        queue, owner = seat.origin, seat.owner
        if error is not None:
            self._failed(queue, error, seat.begun, now)
        elif size is not None:
            queue.state.learn(size)
            queue.state.succeeded(seat.begun)
        seat.left -= 1
        if not seat.left:
            self._seats -= 1
            queue.state.in_flight -= 1
            owner.in_flight -= 1
            self._order.stir(owner)
        for entry in self._order.busy_keys.pop(key, ()):
            if self._order.waiting.get(entry.fetch) is entry:
                self._order.push(entry)
        self._order.reopen(queue)
        self._order.forget(owner, queue)

    def _failed(self, queue: OriginQueue, error: StagerError, begun: int, now: float) -> None:
        origin = queue.state
        asked = error.retry_after if isinstance(error, FetchError) else None
        until = now + min(asked or 0.0, self._longest_pause_seconds)
        origin.failed(error, begun, until)
        if origin.paused_until == until > now:
            queue.paused = True
            heapq.heappush(self._pauses, (until, self._order.next_serial(), queue))

    def hold_back(self, until: float) -> None:
        """The cache is full: until then, only what comes from origins of small files is let go."""
        if until > self._full_until:
            self._full_until = until
            self._order.small_only = True
            heapq.heappush(self._pauses, (until, self._order.next_serial(), None))

    def room_made(self) -> None:
        """The cache is not full any more."""
        if self._full_until:
            self._full_until = 0.0
            self._order.small_only = False
            self._order.reopen_all()

    def pause(self, until: float) -> None:
        """The cache can't be used: nothing is let go until then; a time that is past ends the pause."""
        self._paused_until = until

    # -- the pick -------------------------------------------------------------------------------

    def pick(self, now: float) -> list[list[str]]:
        """The seats to fill now, each with its fetches in order; a fetch counts as running until `ended`."""
        self._order.now = max(self._order.now, now)
        self._time_passes(now)
        seats: list[list[str]] = []
        if now < self._paused_until:
            return seats
        while self._seats < self.slots:
            entry, par = self._order.best()
            if entry is None:
                break
            seats.append(self._fill(entry, par))
        return seats

    def next_time(self) -> float | None:
        """When what is held back may be picked; None when nothing is."""
        if self._paused_until > self._order.now:
            return self._paused_until if len(self) else None
        while self._later and self._held.get(self._later[0][2]) != self._later[0][1]:
            heapq.heappop(self._later)
        while self._pauses and not self._is_meant(*self._pauses[0]):
            heapq.heappop(self._pauses)
        return min((heap[0][0] for heap in (self._later, self._pauses) if heap), default=None)

    def _time_passes(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, serial, fetch = heapq.heappop(self._later)
            if self._held.get(fetch) == serial:
                del self._held[fetch]
                self._order.push(self._order.waiting[fetch])
        while self._pauses and self._pauses[0][0] <= now:
            pause = heapq.heappop(self._pauses)
            if not self._is_meant(*pause):
                continue
            queue = pause[2]
            if queue is None:
                self._order.small_only = False
                self._full_until = 0.0
                self._order.reopen_all()
            else:
                queue.paused = False
                self._order.reopen(queue)

    def _is_meant(self, until: float, _: int, queue: OriginQueue | None) -> bool:
        """Whether this pause was not replaced by a longer one."""
        if queue is None:
            return self._full_until == until
        return queue.paused and queue.state.paused_until == until

    def _fill(self, first: Entry, par: float) -> list[str]:
        """Begin a seat with `first` and others of its line that are at par."""
        line = first.line
        seat = Seat(line.owner, line.origin)
        most = 1 if first.fetch in self._alone else line.origin.state.portion(self.batch)
        fetches: list[str] = []
        entry: Entry | None = first
        while entry is not None:
            self._order.pop(entry)
            self._alone.discard(entry.fetch)
            self._begin(seat, entry.fetch, entry.key)
            fetches.append(entry.fetch)
            if len(fetches) == most:
                break
            entry = self._order.first(line)
            if entry is not None and (entry.rank > par or entry.fetch in self._alone):
                break
        line.owner.served = self._order.next_serial()
        self._order.look_at(line)
        self._order.stir(line.owner)
        return fetches

    def _begin(self, seat: Seat, fetch: str, key: str) -> None:
        if not seat.left:
            self._seats += 1
            seat.origin.state.in_flight += 1
            seat.owner.in_flight += 1
        seat.left += 1
        self._running[fetch] = (seat, key)
        self._order.busy_keys.setdefault(key, [])

    # -- what people see ------------------------------------------------------------------------

    def origins(self) -> Iterator[OriginView]:
        """Every origin that has work or had some lately."""
        for name, queue in self._order.origins.items():
            origin = queue.state
            yield OriginView(
                origin=name,
                limit=origin.limit,
                maximum=origin.maximum,
                in_flight=origin.in_flight,
                waiting=queue.waiting,
                paused_until=origin.paused_until if queue.paused else None,
                recent_successes=origin.recent_successes,
                recent_failures=origin.recent_failures,
                last_error=origin.last_error,
            )

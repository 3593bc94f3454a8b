"""Keeps the cache within its limits, and makes room for fetches that wait for it.

One thread of the server, never the mapper's. It sleeps until it is time to look again, or until it is told that
room is needed, or that something was freed while room is needed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from stager.clock import Clock
from stager.errors import StagerError
from stager.mapper.instructions import MakeRoom
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.model.eviction import LimitsView, Purged, Stay
from stager.model.fetches import FetchState
from stager.model.records import Changes
from stager.model.sizes import written
from stager.service.cache_eviction import EvictionService

log = logging.getLogger(__name__)

ANSWER_SECONDS = 60.0
AT_ONCE = 2000
"""Fetches looked at in one go, so that nobody waits for it longer than for anything else."""
APART_SECONDS = 1.0
"""Between two attempts to make room that were not asked for anew: jobs may end by the hundred."""
LONGEST_REST = 60
"""Looks that are left out, at most, after some that freed nothing."""
_WORDS = {
    Stay.HELD: "held by jobs",
    Stay.PINNED: "pinned",
    Stay.NEEDED: "needed by jobs that wait",
    Stay.PROMISED: "results within their promised time",
    Stay.PROTECTED: "protected",
    Stay.YOUNG: "stored of late, perhaps under another name",
    Stay.FAILED: "not removable",
}


class Keeper:
    """The thread.

    Args:
        eviction: evicts.
        mapper: told when there is room.
        clock: the time.
        every_seconds: between two looks at the limits.
    """

    def __init__(
        self, eviction: EvictionService, mapper: Mapper, clock: Clock, *, every_seconds: float
    ) -> None:
        self._eviction = eviction
        self._mapper = mapper
        self._clock = clock
        self._every = every_seconds
        self._needed = MakeRoom(0)
        self._asked = False  # for room, since the last attempt
        self._freed = False  # something, by somebody, since then
        self._fruitless = 0  # looks in a row
        self._answered = float("-inf")  # with nothing but that there is room
        self._why = ""
        self._looked_at: float | None = None
        self._last: Purged | None = None
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    # -- from other threads ----------------------------------------------------------------------

    def make_room(self, order: MakeRoom) -> None:
        """Fetches need so much room from now on; returns at once."""
        self._needed = order
        if order.size:
            self._asked = True
            self._wake.set()

    def tell(self, changes: Changes) -> None:
        """What a job held is free when it is over; returns at once."""
        if any(job.state.is_final for job in changes.jobs):
            self.freed()

    def freed(self) -> None:
        """Somebody freed something, or may have; returns at once."""
        if self._needed.size:
            self._freed = True
            self._wake.set()

    def complete(self, view: LimitsView) -> LimitsView:
        """The view, with what is waited for and what was done last."""
        return replace(
            view,
            waiting_bytes=self._needed.size,
            waiting_for=self._why if self._needed.size else "",
            looked_at=self._looked_at,
            last=self._last,
        )

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End, after the objects in hand."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        next_look = next_try = self._clock.monotonic()
        while not self._closed:
            now = self._clock.monotonic()
            again = (self._freed or now >= next_look) and now >= next_try
            if self._needed.size and (self._asked or again):
                self._guarded(self._make_room)
                next_try = self._clock.monotonic() + APART_SECONDS
            if now >= next_look:
                self._guarded(self._look)
                next_look = self._clock.monotonic() + self._every * min(2**self._fruitless, LONGEST_REST)
            until = min(next_look, next_try) if self._freed and self._needed.size else next_look
            self._wake.wait(max(0.0, until - self._clock.monotonic()))
            self._wake.clear()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (StagerError, TimeoutError) as error:  # the cache or the database is away; others say so
            log.debug("could not look after the cache: %s", error)
        except Exception:
            log.exception("internal fault while looking after the cache")

    def _make_room(self) -> None:
        self._asked = self._freed = False
        order = self._needed
        purged = self._eviction.make_room(order.size, regardless=order.regardless)
        if purged.files:
            self._remember(purged, "room is needed")
        made = purged.bytes + purged.trash_bytes
        if made or not (purged.missing or purged.missing_inodes or order.regardless):
            now = self._clock.monotonic()
            if not made and now - self._answered < APART_SECONDS:
                self._freed = (
                    True  # there seems to be room, and the fetch does not find it: not at once again
                )
                return
            self._answered, self._why = now, ""
            if self._needed is order:
                self._needed = MakeRoom(0)
            self._mapper.repair(lambda machine, _: machine.flights.room_made()).result(ANSWER_SECONDS)
            return
        why = self._why = why_not(purged, order.size)
        self._mapper.repair(lambda machine, _: machine.flights.no_room(why)).result(ANSWER_SECONDS)

    def _look(self) -> None:
        work = self._eviction.enforce()
        try:
            while not self._closed:
                next(work)
        except StopIteration as end:
            purged: Purged = end.value
            self._looked_at = self._clock.time()
            self._fruitless = self._fruitless + 1 if purged.missing and not purged.files else 0
            if purged.files:
                self._remember(purged, "the limits of the cache")
            if purged.missing and self._fruitless == 1:
                log.warning(
                    "the cache is %s beyond its limits: %s",
                    written(purged.missing),
                    _stayed(purged) or "nothing is left to evict",
                )
        finally:
            work.close()

    def _remember(self, purged: Purged, why: str) -> None:
        self._last = purged
        log.info("evicted %d files (%s): %s", purged.files, written(purged.bytes), why)


def why_not(purged: Purged, size: int) -> str:
    """Why there is no room and none can be made, in words."""
    parts = [f"{written(size)} needed", f"{written(purged.free)} free"]
    if purged.missing_inodes:
        parts.append(f"{purged.missing_inodes:,} inodes too few")
    stayed = _stayed(purged)
    return ", ".join([*parts, stayed] if stayed else [*parts, "nothing is left to evict"])


def _stayed(purged: Purged) -> str:
    return ", ".join(
        f"{written(tally.bytes)} {_WORDS.get(Stay(tally.reason), tally.reason)}" for tally in purged.stayed
    )


def needed_objects(mapper: Mapper) -> Collection[str]:
    """Objects that have been fetched for jobs, or for stage requests, which do not hold them yet.

    Asked for a piece at a time: nobody waits for it.
    """
    fetches = mapper.inspect(lambda machine: list(machine.fetches)).result(ANSWER_SECONDS)
    found: set[str] = set()
    for start in range(0, len(fetches), AT_ONCE):
        found |= mapper.inspect(partial(_ready, fetches[start : start + AT_ONCE])).result(ANSWER_SECONDS)
    return found


def _ready(fetches: Sequence[str], machine: Machine) -> set[str]:
    known = (machine.fetches.get(fetch) for fetch in fetches)
    return {fetch.sha256 for fetch in known if fetch is not None and fetch.state is FetchState.READY}

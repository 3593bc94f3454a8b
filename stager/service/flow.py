"""What flows into the cache: looked at every few seconds, so that speeds and the last hours can be shown.

Nothing of it is kept: after a restart it begins anew. For longer there are the metrics.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import TimeoutError as Late
from dataclasses import replace
from itertools import islice

from stager.clock import Clock
from stager.errors import StateError
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.model.fetches import FetchState
from stager.model.flow import MINUTE, Minute, Transfer, UnderWay, WantedCredential
from stager.model.records import Changes
from stager.model.urls import parse_url

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""Between two looks of its own."""
FRESH_SECONDS = 1.0
"""A look as old as this is answered with again, however many ask."""
PATIENCE_SECONDS = 0.5
"""The mapper answers between two batches; who looks at a page does not wait longer for it."""
SPEED_SECONDS = 30.0
"""A speed is the mean of so long."""
KEPT_MINUTES = 24 * 60
JOBS_NAMED = 3
"""Of all that need a transfer."""
MOST_LOCKED = 2000
"""Fetches that wait for credentials and are looked at."""
REMEMBERED = 4096
"""Fetches that have ended and are not to be counted twice."""


class Flow:
    """Looks at what runs. All methods may be called from any thread.

    Args:
        mapper: knows what runs, and how far it is.
        clock: the time.
    """

    def __init__(self, mapper: Mapper, clock: Clock) -> None:
        self._mapper = mapper
        self._clock = clock
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._last = UnderWay()
        self._looked: float | None = None
        self._seen: dict[tuple[str, int], deque[tuple[float, int]]] = {}
        self._counted: dict[str, int] = {}  # running fetch → bytes of it that are in a minute already
        self._ran: set[str] = set()
        self._ended: dict[str, None] = {}
        self._minutes: deque[Minute] = deque(maxlen=KEPT_MINUTES)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def tell(self, changes: Changes) -> None:
        """Take in what was recorded; called by the mapper's thread."""
        ready = [fetch for fetch in changes.fetches if fetch.state is FetchState.READY]
        if not ready:
            return
        with self._lock:
            minute = self._minute()
            for fetch in ready:
                if fetch.id in self._ended:
                    continue
                self._ended[fetch.id] = None
                minute.hits += fetch.cached
                minute.misses += not fetch.cached
                minute.bytes += max(0, fetch.received - self._counted.pop(fetch.id, 0))
            while len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def under_way(self) -> UnderWay:
        """What runs now, or ran a moment ago if the mapper is busy."""
        self.look()
        return self._last

    def minutes(self, newest: int = KEPT_MINUTES) -> list[Minute]:
        """The last minutes, oldest first, without a gap; the last one is not over."""
        with self._lock:
            now = self._minute()
            known = {minute.at: replace(minute) for minute in self._minutes}
            began = min(known)
        first = max(began, now.at - (newest - 1) * MINUTE)
        count = int((now.at - first) // MINUTE) + 1
        return [known.get(at) or Minute(at) for at in (first + n * MINUTE for n in range(count))]

    def look(self) -> None:
        """Look now, unless somebody did so a moment ago."""
        with self._looking:
            now = self._clock.monotonic()
            if self._looked is not None and now - self._looked < FRESH_SECONDS:
                return
            try:
                found: UnderWay = self._mapper.inspect(self._running).result(PATIENCE_SECONDS)
            except (Late, StateError) as error:  # what was seen before is shown meanwhile
                log.debug("no look at what runs: %s", error)
                return
            self._take_in(found, self._clock.monotonic())

    # -- inside ----------------------------------------------------------------------------------

    def _running(self, machine: Machine) -> UnderWay:
        flights = machine.flights
        admission = flights.admission
        found = (flights.fetches[fetch] for fetch in admission.let_go if fetch in flights.fetches)
        transfers = []
        for fetch in found:
            jobs = tuple(job for job, _ in zip(fetch.jobs, range(JOBS_NAMED), strict=False))
            told = self._mapper.progress(fetch.id)
            received, total = (told.received, told.total) if told is not None else (0, fetch.expected_size)
            transfers.append(
                Transfer(
                    fetch.id,
                    fetch.url,
                    fetch.owner,
                    jobs,
                    len(fetch.jobs),
                    fetch.generation,
                    received,
                    total,
                    fetch.first_try_at,
                )
            )
        return UnderWay(tuple(transfers), len(admission), tuple(admission.origins()), _wanted(machine))

    def _take_in(self, found: UnderWay, now: float) -> None:
        with self._lock:
            minute = self._minute()
            seen: dict[tuple[str, int], deque[tuple[float, int]]] = {}
            transfers = []
            for transfer in found.transfers:
                place = transfer.fetch, transfer.tries
                history = self._seen.get(place) or deque()
                minute.bytes += self._news(transfer, history)
                history.append((now, transfer.received))
                while now - history[0][0] > SPEED_SECONDS:
                    history.popleft()
                seen[place] = history
                transfers.append(
                    replace(transfer, url=parse_url(transfer.url).redacted, speed=_speed(history))
                )
            self._seen = seen
            running = {transfer.fetch for transfer in found.transfers}
            known = running | self._ran  # of one that has just ended it may not have been told yet
            self._counted = {fetch: count for fetch, count in self._counted.items() if fetch in known}
            self._ran = running
        self._last = replace(found, transfers=tuple(transfers))
        self._looked = now

    def _news(self, transfer: Transfer, history: deque[tuple[float, int]]) -> int:
        """Bytes that came since the last look at this try."""
        told = self._mapper.progress(transfer.fetch)
        begun = told.resumed_from if told is not None else 0
        before = history[-1][1] if history else min(begun, transfer.received)
        more = max(0, transfer.received - before)
        self._counted[transfer.fetch] = self._counted.get(transfer.fetch, 0) + more
        return more

    def _minute(self) -> Minute:
        at = self._clock.time() // MINUTE * MINUTE
        if not self._minutes or self._minutes[-1].at < at:
            self._minutes.append(Minute(at))
        return self._minutes[-1]

    def _run(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:
                log.exception("internal fault while looking at what flows")


def _wanted(machine: Machine) -> tuple[WantedCredential, ...]:
    flights = machine.flights
    found: dict[tuple[str, str], WantedCredential] = {}
    for name in islice(flights.locked, MOST_LOCKED):
        fetch = flights.fetches[name]
        details = {} if fetch.error is None else fetch.error.details
        place = str(details.get("host", "")), fetch.owner
        before = found.get(place)
        cause = "" if fetch.error is None else fetch.error.cause
        found[place] = WantedCredential(*place, 1 if before is None else before.fetches + 1, cause)
    return tuple(sorted(found.values(), key=lambda one: (-one.fetches, one.host, one.owner)))


def _speed(history: deque[tuple[float, int]]) -> float | None:
    (first, before), (last, now) = history[0], history[-1]
    if last <= first:
        return None
    return max(0, now - before) / (last - first)

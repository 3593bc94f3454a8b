"""The fetches that jobs need: shared by all who want the same bytes, tried again, given up when unwanted.

The half of the machine (`stager.mapper.machine`) that knows nothing of jobs but their ids. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from stager.errors import (
    CacheFullError,
    CacheGoneError,
    CachePermissionError,
    CredentialError,
    HandedBackError,
    OriginRefusedError,
    WorkerLostError,
)
from stager.mapper.admission import Admission
from stager.mapper.grants import Grants
from stager.mapper.instructions import MakeRoom, StartFetch, StopFetch
from stager.mapper.joining import UNDER_WAY, Wanted, by_worth_joining, is_good, wanted_of
from stager.mapper.shortage import Shortage, waiting_for_room
from stager.mapper.verdicts import to_be_given_for
from stager.model.backoff import RetryPolicy
from stager.model.entries import Entry
from stager.model.fetches import (
    MAX_MIRRORS,
    Failed,
    FetchOrder,
    FetchRequest,
    FetchState,
    Progress,
    Ready,
    Signal,
    Started,
    check_fetch_transition,
)
from stager.model.grants import Access
from stager.model.records import FetchRecord
from stager.model.urls import origin_of

CACHE_SECONDS = 15.0
"""While the cache can't be used, a fetch is tried again so often, for as long as it takes."""


class Flights:
    """Fetches by id, and which of them a new request joins.

    Args:
        admission: the queue of fetches.
        retry: when a failed try is repeated.
        ids: makes the id of a new fetch.
        grants: who has proved that he may read what is restricted.
    """

    def __init__(
        self, admission: Admission, retry: RetryPolicy, ids: Iterator[str], grants: Grants | None = None
    ) -> None:
        self.grants = Grants() if grants is None else grants
        self.admission = admission
        self.fetches: dict[str, FetchRecord] = {}
        self.joinable: dict[Wanted, str] = {}  # → fetch to join
        self.stale_signals = 0
        self._retry = retry
        self._ids = ids
        self.can_lock = True
        """A fetch that wants a credential waits until somebody gives it; where nobody can, it has failed."""
        self.locked: set[str] = set()
        """Fetches that wait for a credential."""
        self._given: dict[str, tuple[int, float, list[Callable[[FetchRecord], bool]]]] = {}
        """Running fetch → its generation, and which credentials were given since it began: it may have missed them."""
        self._shortage = Shortage()
        self._stopping: dict[str, int] = {}  # fetch that nobody needs → its try, which has a place still
        self._dirty: dict[str, FetchRecord] = {}

    def load(self, fetches: Iterable[FetchRecord]) -> None:
        """Take in what was written; `resume` follows when it is known which jobs need what."""
        moments: dict[float, float] = {}  # fetches of one submission share the number again
        for fetch in sorted(fetches, key=by_worth_joining):
            fetch.created_at = moments.setdefault(fetch.created_at, fetch.created_at)
            self.fetches[fetch.id] = fetch
            self.joinable[wanted_of(fetch.url, fetch.owner, fetch.expected, fetch.expected_size)] = fetch.id

    def resume(self, now: float, *, keep_running: bool = False) -> list[FetchOrder]:
        """After `load`: what was running starts anew with the next generation; what nobody needs goes.

        With `keep_running` it goes on running: its orders are returned, to be watched.
        """
        going_on = []
        for fetch in list(self.fetches.values()):
            if fetch.state is FetchState.RUNNING and keep_running and fetch.jobs:
                self.admission.resume(fetch.id, origin=origin_of(fetch.url), key=fetch.url, owner=fetch.owner)
                going_on.append(FetchOrder(fetch.id, fetch.generation, fetch.request))
                continue
            if fetch.state in {FetchState.RUNNING, FetchState.LOCKED}:  # it may have been given meanwhile
                self.move(fetch, FetchState.QUEUED)
                fetch.generation += 1
            if fetch.state is FetchState.LOST:
                self.move(fetch, FetchState.QUEUED)
            if not fetch.jobs:
                self._drop(fetch, now)
            elif fetch.state is FetchState.QUEUED:
                if isinstance(fetch.error, CacheFullError):
                    self._shortage.wait(fetch.id, fetch.error)
                self._enqueue(fetch)
        return going_on

    def join(
        self, request: FetchRequest, entry: Entry | None, priority: int, now: float, owner: str = ""
    ) -> FetchRecord:
        """The fetch that brings this request: one that is under way or still good, or a new one.

        `entry` is what the cache holds of the key. What is restricted is at hand for an owner with a grant alone.
        """
        at_hand = entry if entry and entry.answers(request.expected, request.size) else None
        if at_hand is not None and not is_good(request, at_hand.fresh_until, now, at_hand.url):
            at_hand = None
        if at_hand is not None and at_hand.restricted:
            granted = self.grants.allows(owner, request.key, at_hand.object, now)
            at_hand = at_hand if granted else None
        wanted = wanted_of(request.key, owner, request.expected, request.size)
        flight = self.fetches.get(self.joinable.get(wanted, ""))
        under_way = flight is not None and flight.state in UNDER_WAY
        if flight is not None:
            if (under_way or flight.state is FetchState.LOCKED) and at_hand is None:
                self._lift(flight, priority)
                self._add_mirrors(flight, request)
                return flight
            good = is_good(request, flight.fresh_until, now)
            if flight.state is FetchState.READY and good and self.is_granted(flight, now):
                return flight
        fetch = FetchRecord(
            id=next(self._ids),
            url=request.url,
            expected=request.expected,
            refresh=request.refresh,
            priority=priority,
            owner=owner,
            created_at=now,
            mirrors=request.mirrors,
            expected_size=request.size,
            request_id=request.request_id,
        )
        if at_hand is not None:
            fetch.state, fetch.cached, fetch.ended_at = FetchState.READY, True, now
            fetch.sha256, fetch.size, fetch.fresh_until = at_hand.object, at_hand.size, at_hand.fresh_until
            fetch.restricted = at_hand.restricted
        else:
            self._enqueue(fetch)
        self.fetches[fetch.id] = fetch
        if not under_way:  # else the next job that finds nothing at hand joins what is under way
            self.joinable[wanted] = fetch.id
        self._dirty[fetch.id] = fetch
        return fetch

    def leave(self, fetch_id: str, job: str, now: float) -> StopFetch | None:
        """A job needs the fetch no more; what is to be stopped when it was the last one."""
        fetch = self.fetches.get(fetch_id)
        if fetch is None or job not in fetch.jobs:
            return None
        fetch.jobs.discard(job)
        return None if fetch.jobs else self._drop(fetch, now)

    def signal(self, signal: Signal, *, now: float, jitter: float) -> FetchRecord | None:
        """Take in what a try tells; the fetch, if it is over now (ready or failed).

        A signal of another generation, or of a fetch that is not running, is ignored.
        """
        fetch = self.fetches.get(signal.fetch)
        if fetch is None or fetch.generation != signal.generation or fetch.state is not FetchState.RUNNING:
            self.stale_signals += 1
            if isinstance(signal, Ready | Failed):
                self._free_place(signal, now)
            return None
        if isinstance(signal, Started | Progress):
            return None
        self._end_try(signal, now)
        if isinstance(signal, Failed):
            return self._failed(fetch, signal, now, jitter)
        return self._ready(fetch, signal, now)

    def is_granted(self, fetch: FetchRecord, now: float, since: float | None = None) -> bool:
        """Whether its owner may read, now, what it brought."""
        return not fetch.restricted or self.grants.allows(fetch.owner, fetch.url, fetch.sha256, now, since)

    def ungranted(self, fetches: Iterable[str], now: float, since: float | None = None) -> list[str]:
        """Those of these ready fetches whose owner has to prove again that he may read what they brought."""
        return [one for one in fetches if not self.is_granted(self.fetches[one], now, since)]

    def lose(self, fetch_id: str) -> FetchRecord | None:
        """The object of a ready fetch is gone, or its grant: fetch it again; the fetch, None if it was not ready."""
        fetch = self.fetches.get(fetch_id)
        if fetch is None or fetch.state is not FetchState.READY:
            return None
        self.move(fetch, FetchState.LOST)
        self.move(fetch, FetchState.QUEUED)
        fetch.generation += 1
        fetch.tries, fetch.not_before, fetch.first_try_at, fetch.ended_at = 0, 0.0, None, None
        self._enqueue(fetch)
        return fetch

    def start(self, now: float) -> list[StartFetch | MakeRoom]:
        """The tries to begin now, and the room to make for those that wait for it."""
        started: list[StartFetch | MakeRoom] = []
        for seat in self.admission.pick(now):
            first, *then = (self._begin_try(self.fetches[fetch_id], now) for fetch_id in seat)
            started.append(StartFetch(first, tuple(then)))
        order = self._shortage.order()
        return started if order is None else [*started, order]

    def room_made(self) -> int:
        """There is room again: what waits for it is tried; how many fetches that are."""
        waiting = self._shortage.all()
        self.admission.room_made()
        for fetch_id in waiting:
            fetch = self.fetches[fetch_id]
            fetch.not_before = 0.0
            self._dirty[fetch_id] = fetch
            self._enqueue(fetch)
        self._shortage.ask_again()
        return len(waiting)

    def no_room(self, why: str) -> None:
        """No room can be made now: those who wait for it say why."""
        for fetch_id in self._shortage.all():
            fetch = self.fetches[fetch_id]
            if isinstance(fetch.error, CacheFullError):
                said = waiting_for_room(fetch.error, why)
                if said != fetch.error:
                    fetch.error = said
                    self._dirty[fetch_id] = fetch

    def unlock(self, opens: Callable[[FetchRecord], bool], *, at: float) -> int:
        """Credentials were given: what waits for one that `opens` it is tried at that time; how many those are."""
        found = [fetch for fetch in map(self.fetches.__getitem__, self.locked) if opens(fetch)]
        for fetch in found:
            self.locked.discard(fetch.id)
            fetch.first_try_at = None
            self._try_again(fetch, at=at)
        for fetch in self.fetches.values():
            if fetch.state is FetchState.RUNNING:
                generation, _, known = self._given.get(fetch.id, (fetch.generation, at, []))
                same = generation == fetch.generation
                self._given[fetch.id] = fetch.generation, at, [*(known if same else ()), opens]
        return len(found)

    def _begin_try(self, fetch: FetchRecord, now: float) -> FetchOrder:
        self.move(fetch, FetchState.RUNNING)
        self._shortage.began(fetch.id)
        if fetch.first_try_at is None:
            fetch.first_try_at = now
        return FetchOrder(fetch.id, fetch.generation, fetch.request)

    def take_changes(self) -> list[FetchRecord]:
        """What changed since the last call."""
        changed, self._dirty = list(self._dirty.values()), {}
        return changed

    def move(self, fetch: FetchRecord, state: FetchState) -> None:
        """Take a step; `IllegalTransitionError` if the table does not have it."""
        check_fetch_transition(fetch.id, fetch.state, state)
        fetch.state = state
        self._dirty[fetch.id] = fetch

    def _ready(self, fetch: FetchRecord, signal: Ready, now: float) -> FetchRecord:
        result = signal.result
        self.move(fetch, FetchState.READY)
        self._given.pop(fetch.id, None)
        self._shortage.over(fetch.id)
        fetch.sha256, fetch.size, fetch.fresh_until = result.sha256, result.size, result.fresh_until
        fetch.cached, fetch.restricted = result.cached, result.restricted
        if result.restricted:
            self.grants.give(Access(fetch.owner, fetch.url, result.sha256), result.credentials, now)
        fetch.received += result.received
        fetch.resumed_from = result.resumed_from or fetch.resumed_from
        fetch.error, fetch.ended_at = None, now
        return fetch

    def _failed(self, fetch: FetchRecord, signal: Failed, now: float, jitter: float) -> FetchRecord | None:
        error = signal.error
        if isinstance(error, OriginRefusedError):
            self.grants.refuse(fetch.owner, fetch.url)
        fetch.received += int(error.details.get("received", 0))
        if isinstance(error, HandedBackError):
            self._try_again(fetch, at=0.0)
            return None
        if isinstance(error, WorkerLostError) and signal.progressed:
            # A long transfer may outlive many workers: its deadline begins anew with each.
            fetch.tries, fetch.error, fetch.first_try_at = 0, error, now
            self._try_again(fetch, at=0.0)
            return None
        if isinstance(error, CacheGoneError | CachePermissionError):
            # Somebody has to see to the cache. It is no fault of the origin or of the jobs: they wait.
            fetch.error, fetch.first_try_at = error, now
            if isinstance(error, CacheGoneError):
                self.admission.pause(now + CACHE_SECONDS)
            self._try_again(fetch, at=now + CACHE_SECONDS)
            return None
        if isinstance(error, CacheFullError):
            # Nor is this: room is made, or becomes free. Meanwhile only what is known to be small is let go.
            later = now + self._retry.longest_seconds
            fetch.error, fetch.first_try_at = error, now
            self.admission.hold_back(later)
            self._shortage.wait(fetch.id, error)
            self._try_again(fetch, at=later)
            return None
        generation, seen_at, given = self._given.pop(fetch.id, (0, 0.0, []))
        if isinstance(error, CredentialError) and self.can_lock:
            fetch.tries, fetch.error = 0, to_be_given_for(fetch.owner, error)
            if generation == fetch.generation and any(opens(fetch) for opens in given):
                self._try_again(fetch, at=seen_at)
                return None
            self.move(fetch, FetchState.LOCKED)
            self.locked.add(fetch.id)
            return None
        fetch.tries = 0 if signal.progressed else fetch.tries + 1
        fetch.error = error
        if error.transient:
            at = self._retry.next_try(
                fetch.tries,
                started=fetch.first_try_at if fetch.first_try_at is not None else now,
                now=now,
                jitter=jitter,
                retry_after=error.details.get("retry_after"),
            )
            if at is not None:
                self._try_again(fetch, at=at)
                return None
            cause = f"{error.cause or 'no answer'} (gave up after {fetch.tries} tries in a row)"
            fetch.error = error.with_cause(cause)
        self.move(fetch, FetchState.FAILED)
        self._shortage.over(fetch.id)
        fetch.ended_at = now
        return fetch

    def _try_again(self, fetch: FetchRecord, *, at: float) -> None:
        self.move(fetch, FetchState.QUEUED)
        fetch.generation += 1
        fetch.not_before = at
        self._enqueue(fetch)

    def _lift(self, fetch: FetchRecord, priority: int) -> None:
        if priority > fetch.priority:
            fetch.priority = priority
            self._dirty[fetch.id] = fetch
            self.admission.lift(fetch.id, priority)

    def _add_mirrors(self, fetch: FetchRecord, request: FetchRequest) -> None:
        """Another one knows more URLs of the file: its next try has them."""
        if request.mirrors and (more := [m for m in request.mirrors if m not in fetch.mirrors]):
            fetch.mirrors = (fetch.mirrors + tuple(more))[:MAX_MIRRORS]
            self._dirty[fetch.id] = fetch

    def _enqueue(self, fetch: FetchRecord) -> None:
        self.admission.add(
            fetch.id,
            origin=origin_of(fetch.url),
            key=fetch.url,
            priority=fetch.priority,
            owner=fetch.owner,
            since=fetch.created_at,
            not_before=fetch.not_before,
            alone=fetch.error is not None,
        )

    def _drop(self, fetch: FetchRecord, now: float) -> StopFetch | None:
        """No job needs the fetch: give it up if it is under way, and forget it."""
        stop = None
        self._given.pop(fetch.id, None)
        self._shortage.over(fetch.id)
        if fetch.state is FetchState.RUNNING:
            stop = StopFetch(fetch.id, fetch.generation)
            self._stopping[fetch.id] = fetch.generation
        if fetch.state in UNDER_WAY:
            self.admission.remove(fetch.id)
        if fetch.state in UNDER_WAY or fetch.state is FetchState.LOCKED:
            self.move(fetch, FetchState.CANCELLED)
            self.locked.discard(fetch.id)
            fetch.ended_at = now
        del self.fetches[fetch.id]
        wanted = wanted_of(fetch.url, fetch.owner, fetch.expected, fetch.expected_size)
        if self.joinable.get(wanted) == fetch.id:
            del self.joinable[wanted]
        return stop

    def _free_place(self, signal: Ready | Failed, now: float) -> None:
        """A try that nobody wants any more has ended: its place is free."""
        if self._stopping.get(signal.fetch) == signal.generation:
            del self._stopping[signal.fetch]
            self._end_try(signal, now)

    def _end_try(self, signal: Ready | Failed, now: float) -> None:
        if isinstance(signal, Ready):
            self.admission.ended(signal.fetch, size=signal.result.size, now=now)
        else:
            self.admission.ended(signal.fetch, error=signal.error, now=now)

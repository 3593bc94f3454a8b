"""Lets go on what waited for a credential, whoever gave it and however; and says what waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable

from stager.clock import Clock
from stager.credentials.base import CredentialStore
from stager.credentials.wallet import LOOK_SECONDS
from stager.errors import CredentialUnreadableError, InputError, StagerError
from stager.mapper.loop import Mapper
from stager.model.credential_scope import Scope
from stager.model.credentials import CredentialRow
from stager.model.fetches import FetchState
from stager.model.records import Changes, FetchRecord
from stager.model.urls import parse_url

log = logging.getLogger(__name__)

WATCH_SECONDS = 2.0
"""Between two looks for credentials that were given without this server."""
SETTLE_SECONDS = LOOK_SECONDS + 0.2
"""After so long every process that fetches has seen what was given."""
UNREADABLE_SECONDS = 60.0
"""What could not be opened is tried again after so long: where fetches run its key may be there by then."""
ANSWER_SECONDS = 60.0
_Known = dict[str, tuple[int, bool]]
"""Credential → serial of its secret, and whether an origin has refused that."""


class CredentialWatch:
    """One thread, which sleeps in between.

    Args:
        store: the credentials.
        mapper: whose machine holds what waits.
        clock: the time.
        spread: called at each look, before anything is let go on: brings credentials to workers on other hosts.
        changed: told, first, of the ids of all credentials when they changed.
    """

    def __init__(
        self,
        store: CredentialStore,
        mapper: Mapper,
        clock: Clock,
        spread: Callable[[], object] = lambda: None,
        changed: Callable[[list[str]], object] = lambda _: None,
    ) -> None:
        self._store = store
        self._mapper = mapper
        self._clock = clock
        self._spread = spread
        self._tell_all = changed
        self._told_of: Hashable = object()
        self._stamp: Hashable = object()
        self._known: _Known = {}
        self._told: set[tuple[str, str]] = set()
        self._again_at: float | None = None
        """When to try again what could not be opened; None: nothing waits for that."""
        self._changed = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="credentials", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._closed = True
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()

    def kick(self) -> None:
        """Look now: one was given."""
        self._changed.set()

    def tell(self, changes: Changes) -> None:
        """Say, once for each owner and host, what waits for a credential."""
        for fetch in changes.fetches:
            if fetch.state is FetchState.LOCKED and fetch.error is not None:
                if isinstance(fetch.error, CredentialUnreadableError) and self._again_at is None:
                    self._again_at = self._clock.monotonic() + UNREADABLE_SECONDS
                place = (fetch.owner, str(fetch.error.details.get("host", "")))
                if place not in self._told:
                    self._told.add(place)
                    whose = f"of {fetch.owner}" if fetch.owner else "of nobody in particular"
                    log.warning("jobs %s wait for a credential: %s", whose, fetch.error)

    def look(self) -> int:
        """Let go on what waited for what is new; how many fetches that are.

        Raises:
            StagerError: the credentials can't be read, or the machine does not answer.
        """
        stamp = self._store.stamp()
        if stamp != self._told_of:
            self._tell_all([row.id for row in self._store.rows()])
            self._told_of = stamp
        self._spread()
        if self._again_at is not None and self._clock.monotonic() >= self._again_at:
            self._again_at = None
            self._unlock(_is_unreadable, at=self._clock.time())
        stamp = self._store.stamp()
        if stamp == self._stamp:
            return 0
        rows = self._store.rows()
        known = {row.id: (row.serial, self._is_refused(row)) for row in rows}
        fresh = [row for row in rows if self._is_news(row, known)]
        count = 0
        if fresh:
            at = self._clock.time() + SETTLE_SECONDS
            count = self._unlock(_opener(fresh), at=at)
        self._stamp, self._known = stamp, known
        if fresh:
            self._told.clear()
        if count:
            log.info("%d fetches go on: a credential was given", count)
        return count

    def _unlock(self, opens: Callable[[FetchRecord], bool], *, at: float) -> int:
        done = self._mapper.repair(lambda machine, _: machine.flights.unlock(opens, at=at))
        return int(done.result(ANSWER_SECONDS))

    def _is_news(self, row: CredentialRow, now: _Known) -> bool:
        """Whether it was not known, or known as refused."""
        return not now[row.id][1] and self._known.get(row.id) != now[row.id]

    def _is_refused(self, row: CredentialRow) -> bool:
        notes = self._store.notes(row.id)
        return notes.serial == row.serial and notes.is_refused

    def _run(self) -> None:
        while not self._closed:
            self._changed.clear()
            try:
                self.look()
            except (StagerError, TimeoutError) as error:  # who needs one is told by the fetch
                log.info("could not look for credentials: %s", error)
            except Exception:
                log.exception("internal fault while looking for credentials")
            self._changed.wait(WATCH_SECONDS)


def _is_unreadable(fetch: FetchRecord) -> bool:
    return isinstance(fetch.error, CredentialUnreadableError)


def _opener(rows: Iterable[CredentialRow]) -> Callable[[FetchRecord], bool]:
    scopes = [row.scope for row in rows]
    return lambda fetch: any(_may_open(scope, fetch) for scope in scopes)


def _may_open(scope: Scope, fetch: FetchRecord) -> bool:
    """Whether it is for the URL, or for the host that wanted one on the way there."""
    if scope.owner not in {"", fetch.owner}:
        return False
    if scope.covers(parse_url(fetch.url), fetch.owner):
        return True
    host = fetch.error.details.get("host") if fetch.error is not None else None
    place = Scope(scope.host)
    try:
        wanted = [parse_url(f"{scheme}://{host}/") for scheme in ("https", "http")]
    except InputError:
        return False
    return any(place.covers(url, "") for url in wanted)

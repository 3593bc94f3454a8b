"""The far end of a Celery farm: takes orders by their ids, fetches, tells."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest

from stager.errors import CancelledError, HandedBackError, SignalsError, StagerError
from stager.farm.base import Fetcher, cancelled_error, unexpected_error
from stager.logs import bound
from stager.model.fetches import Failed, FetchOrder, Progress, Ready, Signal, Started
from stager.model.urls import parse_url
from stager.signals.fetches import FetchBook, Hold, Try
from stager.signals.outbox import Outbox

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
"""Between two words about progress, and two looks for cancels; nothing happens while there is no work."""
GRACE_SECONDS = 10.0
"""From the word to stop until the last signal must be out."""


class _Held:
    """A try that this worker has leased."""

    __slots__ = ("at", "is_lost", "note", "order", "reported", "stop")

    def __init__(self, order: FetchOrder, note: Callable[[str], None]) -> None:
        self.order = order
        self.note = note
        self.stop = threading.Event()
        self.is_lost = False
        """Another worker has it now, and tells how it ends."""
        self.at: tuple[int, int | None, int] | None = None  # bytes in place, of how many, resumed from
        self.reported: tuple[int, int | None, int] | None = None

    @property
    def key(self) -> Try:
        return self.order.fetch, self.order.generation


class FetchWorker:
    """One worker process; `run` is called by as many threads as it has.

    Args:
        fetcher: makes the tries; closed with the worker.
        book: orders and leases; closed with the worker.
        outbox: takes the signals; closed with the worker.
        name: of this process and of no other one, before or after it.
        lease_seconds: how long the server waits for a sign of life.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        book: FetchBook,
        outbox: Outbox,
        *,
        name: str,
        lease_seconds: float,
    ) -> None:
        self._fetcher = fetcher
        self._book = book
        self._outbox = outbox
        self._name = name
        self._alive_every = lease_seconds / 4
        self._changed = threading.Condition()
        self._held: dict[Try, _Held] = {}
        self._asked: set[Try] = set()
        """Tries that a thread is about to lease."""
        self._draining = False
        self._closed = False
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()

    def run(self, tries: Sequence[Try], note: Callable[[str], None] = lambda _: None) -> str:
        """Do what of `tries` is still to be done and nobody else has, one after another.

        Args:
            tries: fetches and generations.
            note: told what is being done, without secrets.

        Returns:
            What came of it, in words for a dashboard.

        Raises:
            SignalsError: Redis can't be used, so nothing was begun; the server will find out.
        """
        taken = self._take(tries, note)
        ends = []
        for held, following in zip_longest(taken, taken[1:]):  # none: all is done, or somebody else's
            note(_words(held))
            self._outbox.tell(Started(*held.key))
            with bound(request_id=held.order.request.request_id):
                ends.append(self._try(held, following))
                _say(held.order, ends[-1])
            self._finish(held, ends[-1])
        return _outcome(ends)

    def _take(self, tries: Sequence[Try], note: Callable[[str], None]) -> list[_Held]:
        """Lease what is not leased, by another worker or by a thread of this one."""
        with self._changed:
            fresh = [one for one in tries if one not in self._held and one not in self._asked]
            self._asked |= set(fresh)
        try:
            found = self._book.take(self._name, fresh) if fresh else []
            taken = [_Held(order, note) for order, _ in found]
            with self._changed:
                for held, (_, unwanted) in zip(taken, found, strict=True):
                    if unwanted or self._draining:
                        held.stop.set()
                self._held |= {held.key: held for held in taken}
                self._changed.notify_all()
        finally:
            with self._changed:
                self._asked -= set(fresh)
        return taken

    def drain(self) -> None:
        """Break off what is on and give it back, with its bytes kept; take nothing more."""
        with self._changed:
            self._draining = True
            for held in self._held.values():
                held.stop.set()
            self._changed.notify_all()

    def close(self) -> None:
        """Drain, see that what is to be told is told, and end."""
        self.drain()
        with self._changed:
            self._changed.wait_for(lambda: not self._held, GRACE_SECONDS)
            self._closed = True
            self._changed.notify_all()
        self._keeper.join()
        self._outbox.close(GRACE_SECONDS)
        self._book.close()
        self._fetcher.close()

    @property
    def busy(self) -> int:
        """Tries that are leased and not over."""
        return len(self._held)

    def _try(self, held: _Held, following: _Held | None) -> Ready | Failed:
        order = held.order

        def progress(received: int, total: int | None, resumed_from: int) -> None:
            held.at = received, total, resumed_from

        def announce() -> None:
            if following is not None and not following.stop.is_set():
                self._fetcher.announce(following.order)

        if held.stop.is_set():
            error: StagerError = cancelled_error(order.request)
            return Failed(*held.key, _handed_back(order, error) if self._draining else error)
        try:
            result = self._fetcher.fetch(
                order, progress=progress, cancelled=held.stop.is_set, received=announce
            )
        except StagerError as failure:
            given_back = self._draining and isinstance(failure, CancelledError)
            error = _handed_back(order, failure) if given_back else failure
            return Failed(*held.key, error, progressed=bool(failure.details.get("progressed")))
        except Exception as fault:
            log.exception("fetch %s broke", order.fetch)
            return Failed(*held.key, unexpected_error(order.request, fault))
        return Ready(*held.key, result)

    def _finish(self, held: _Held, end: Signal) -> None:
        key = held.key
        if not held.is_lost:
            self._outbox.tell(end, then=lambda pipe: self._book.release(pipe, self._name, [key]))
        with self._changed:
            del self._held[key]
            self._changed.notify_all()

    # -- the keeper -----------------------------------------------------------------------------

    def _keep(self) -> None:
        """Renew leases, tell progress, look for cancels, as long as there is work; then sleep."""
        alive_at = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._closed)
                if self._closed:
                    return
                if self._changed.wait_for(lambda: self._closed, TICK_SECONDS):
                    return
                held = list(self._held.values())
            if not held:
                continue
            now = time.monotonic()
            alive = now - alive_at >= self._alive_every
            try:
                self._look(held)
                self._report(held, alive=alive)
            except SignalsError as error:  # transfers go on; the outbox says that Redis is away
                log.debug("%s", error)
            else:
                alive_at = now if alive else alive_at

    def _look(self, held: Sequence[_Held]) -> None:
        for one, hold in zip(held, self._book.renew(self._name, [h.key for h in held]), strict=True):
            if hold is not Hold.KEPT and not one.stop.is_set():
                why = "it is cancelled" if hold is Hold.CANCELLED else "another worker has it"
                log.info("fetch %s is broken off: %s", one.order.fetch, why)
                one.is_lost = hold is Hold.LOST
                one.stop.set()

    def _report(self, held: Sequence[_Held], *, alive: bool) -> None:
        moved = [(one, one.at) for one in held if one.at is not None and one.at != one.reported]
        if not moved and not alive:
            return
        reports = [Progress(*one.key, received, total, start) for one, (received, total, start) in moved]
        self._outbox.progress(reports, [one.key for one in held] if alive else [])
        for one, at in moved:
            one.reported = at
            if alive:
                one.note(_words(one))


def _say(order: FetchOrder, end: Ready | Failed) -> None:
    """The line in this worker's log."""
    about: dict[str, object] = {"action": "fetch.tried", "fetch": order.fetch, "generation": order.generation}
    if isinstance(end, Ready):
        about |= {
            "received": end.result.received,
            "cached": end.result.cached,
            "seconds": round(end.result.seconds, 4),
        }
    else:
        about |= {"error": end.error.code, "reason": str(end.error)}
    log.info("fetch failed here" if isinstance(end, Failed) else "fetch done here", extra=about)


def _handed_back(order: FetchOrder, error: StagerError) -> HandedBackError:
    url = parse_url(order.request.url).redacted
    given_back = HandedBackError(f"fetch of {url} was given back", cause="its worker stops", url=url)
    given_back.details |= {n: error.details[n] for n in ("received", "progressed") if n in error.details}
    return given_back


def _words(held: _Held) -> str:
    """What is fetched and how much of it is here; a dashboard is no place for a URL."""
    url = parse_url(held.order.request.url)
    words = f"{url.name or '/'} of {url.host}"
    if held.at is None:
        return words
    received, total, _ = held.at
    here = f"{received / 1e6:.1f} MB"
    return f"{words}: {here} of {total / 1e6:.1f} MB" if total else f"{words}: {here}"


def _outcome(ends: Sequence[Ready | Failed]) -> str:
    failed = [end.error.code for end in ends if isinstance(end, Failed)]
    if not ends:
        return "nothing was to be done"
    if len(ends) == 1:
        return f"failed: {failed[0]}" if failed else "ready"
    return f"{len(ends) - len(failed)} ready" + (f", {len(failed)} failed: {failed[0]}" if failed else "")

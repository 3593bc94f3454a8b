"""Fetches on Celery workers, which may be on another host.

A task is a hint, no more: what has to be done lies in the database, what a worker needs to know lies in
`FetchBook`, and what comes of it arrives as signals. So this side keeps an eye on every order it gave:
one that nobody took although no task is left in the queue is sent again, and one whose worker gave no
sign of life fails, to be gone on with by another worker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stager.clock import Clock
from stager.errors import HandedBackError, SignalsError, WorkerLostError
from stager.farm.base import Emit
from stager.farm.names import FETCH_QUEUE, FETCH_TASK
from stager.farm.sender import Sender
from stager.farm.tasks import Task, TaskSender
from stager.model.events import JobSignal
from stager.model.fetches import Failed, FetchOrder, Progress, Ready, Signal, Started
from stager.model.urls import parse_url
from stager.signals.connection import ANSWER_SECONDS
from stager.signals.fetches import FetchBook, Try

log = logging.getLogger(__name__)

UNTAKEN_SECONDS = 5.0
"""A task that is in no queue and was not taken after so long is lost."""
SWEEP_SECONDS = 60.0
"""Between two looks for orders that nobody remembers."""


@dataclass(slots=True, eq=False)
class _Given:
    """An order that is out."""

    order: FetchOrder
    seat: tuple[FetchOrder, ...]
    """Those that were sent in the same task."""
    heard_at: float
    is_taken: bool = False
    has_begun: bool = False
    has_moved: bool = False
    """Bytes of it came."""
    is_cancelled: bool = False


class CeleryFarm:
    """See the module.

    Args:
        book: orders and leases; closed with the farm.
        sender: sends tasks; closed with the farm.
        emit: told of progress, and of the loss of a worker; all other signals come by the stream.
        lease_seconds: how long a worker may be silent.
        clock: monotonic.
        locate: the path of an object in the cache, by its digest; with ``restricted=True`` one that needs a grant.
        queues: where tasks of this farm may lie.
    """

    outlives = True

    def __init__(
        self,
        book: FetchBook,
        sender: TaskSender,
        emit: Emit,
        *,
        lease_seconds: float,
        clock: Clock,
        locate: Callable[..., Path],
        queues: Sequence[str] = (FETCH_QUEUE,),
    ) -> None:
        self._book = book
        self._tasks = sender
        self._emit = emit
        self._lease = lease_seconds
        self._queues = queues
        self._clock = clock
        self._locate = locate
        self._lock = threading.Lock()
        self._given: dict[str, _Given] = {}
        self._over: list[str] = []
        self._is_away = False
        self._swept_at = clock.monotonic()
        self.lost_workers = 0
        self.lost_tasks = 0
        self._sender: Sender[Callable[[], None] | tuple[FetchOrder, ...]] = Sender(
            self._send, self._tend, tend_seconds=min(lease_seconds / 4, UNTAKEN_SECONDS), name="farm"
        )

    # -- the port -------------------------------------------------------------------------------

    def start(self, order: FetchOrder, then: Sequence[FetchOrder] = ()) -> None:
        """See `Farm.start`."""
        fresh = tuple(one for one in (order, *then) if not self.holds(one.fetch, one.generation))
        if fresh:
            self._note(fresh)
            self._sender.put([fresh])

    def adopt(self, order: FetchOrder) -> None:
        """See `Farm.adopt`."""
        self._note((order,))
        self._sender.put([lambda: self._send_if_missing(order)])

    def holds(self, fetch: str, generation: int) -> bool:
        """See `Farm.holds`."""
        with self._lock:
            given = self._given.get(fetch)
        return given is not None and given.order.generation == generation

    def cancel(self, fetch: str, generation: int) -> None:
        """See `Farm.cancel`."""
        with self._lock:
            given = self._given.get(fetch)
            if given is None or given.order.generation != generation:
                return
            given.is_cancelled = True
        self._sender.put([lambda: self._book.cancel([(fetch, generation)])])

    def close(self, *, wait: bool = True) -> None:
        """See `Farm.close`: workers go on; what they tell is heard by the next server."""
        self._sender.close(ANSWER_SECONDS if wait else 0.0)
        self._book.close()
        self._tasks.close()

    # -- what is heard --------------------------------------------------------------------------

    def heard(self, signals: Sequence[Signal | JobSignal]) -> list[Signal | JobSignal]:
        """Take note of what the stream of signals delivers; the same, with results made whole."""
        with self._lock:
            return [
                self._heard(signal) if isinstance(signal, Started | Ready | Failed) else signal
                for signal in signals
            ]

    def _heard(self, signal: Started | Ready | Failed) -> Signal:
        given = self._given.get(signal.fetch)
        if given is None or given.order.generation != signal.generation:
            return signal
        given.heard_at, given.is_taken = self._clock.monotonic(), True
        if isinstance(signal, Started):
            given.has_begun = True
            return signal
        del self._given[signal.fetch]
        self._over.append(signal.fetch)
        if isinstance(signal, Failed):
            return signal
        path = self._locate(signal.result.sha256, restricted=signal.result.restricted)
        return replace(signal, result=replace(signal.result, url=given.order.request.url, location=path))

    def alive(self, reports: Sequence[Progress], held: Sequence[Try]) -> None:
        """Take note of signs of life, and pass progress on."""
        now = self._clock.monotonic()
        with self._lock:
            for fetch, generation in [*held, *((r.fetch, r.generation) for r in reports)]:
                given = self._given.get(fetch)
                if given is not None and given.order.generation == generation:
                    given.heard_at, given.is_taken = now, True
            for report in reports:
                if report.received > report.resumed_from and report.fetch in self._given:
                    self._given[report.fetch].has_moved = True
        for report in reports:
            self._emit(report)

    def emptied(self) -> None:
        """Redis has come back without what it knew: write all orders down anew, send again what was not taken."""
        now = self._clock.monotonic()
        with self._lock:
            given = list(self._given.values())
            for one in given:
                one.heard_at = now
        orders = [one.order for one in given]
        cancelled = [(one.order.fetch, one.order.generation) for one in given if one.is_cancelled]
        waiting = _seats(one for one in given if not one.is_taken)
        self.lost_tasks += len(waiting)
        if orders:
            self._sender.put([lambda: self._book.put(orders), lambda: self._book.cancel(cancelled), *waiting])

    # -- the thread -----------------------------------------------------------------------------

    def _send(self, items: Sequence[Callable[[], None] | tuple[FetchOrder, ...]]) -> None:
        self._drop_over()
        seats = [item for item in items if isinstance(item, tuple)]
        for item in items:
            if not isinstance(item, tuple):
                item()
        if not seats:
            return
        self._book.put([order for seat in seats for order in seat])
        self._tasks.send([_task(seat) for seat in seats])

    def _send_if_missing(self, order: FetchOrder) -> None:
        if not self._book.knows(order):
            self._book.put([order])
            self._tasks.send([_task((order,))])

    def _drop_over(self) -> None:
        with self._lock:
            over, self._over = self._over, []
            again = {fetch for fetch in over if fetch in self._given}  # of a new generation
        gone = [fetch for fetch in over if fetch not in again]
        try:
            if gone:
                self._book.drop(gone)
        except SignalsError:
            with self._lock:
                self._over += gone
            raise

    def _tend(self) -> None:
        """Look for orders that nobody works on, and for those that nobody remembers."""
        try:
            self._drop_over()
            backlog = self._book.backlog(self._queues)
        except SignalsError:
            self._is_away = True
            raise
        now = self._clock.monotonic()
        if self._is_away:  # nobody could give a sign of life
            self._is_away = False
            self._pardon(now)
        if now - self._swept_at > SWEEP_SECONDS:
            self._swept_at = now
            self._forget_unknown()
        with self._lock:
            silent = [g for g in self._given.values() if g.is_taken and now - g.heard_at > self._lease]
            untaken = [
                g for g in self._given.values() if not g.is_taken and now - g.heard_at > UNTAKEN_SECONDS
            ]
            for given in silent:
                del self._given[given.order.fetch]
        for given in silent:
            self._fail(given)
        if silent:  # should their workers be alive after all
            tries = [(given.order.fetch, given.order.generation) for given in silent]
            self._sender.put([lambda: self._book.cancel(tries)])
        if len(_seats(untaken)) > backlog:
            self._send_again(untaken, now)

    def _pardon(self, now: float) -> None:
        with self._lock:
            for given in self._given.values():
                given.heard_at = now

    def _forget_unknown(self) -> None:
        """Orders of a server that was killed, and whose jobs were over when the next one started."""
        written = self._book.tries()
        with self._lock:
            unknown = [one for one in written if one[0] not in self._given]
        if unknown:
            self._book.cancel(unknown)
            self._book.forget([fetch for fetch, _ in unknown])

    def _fail(self, given: _Given) -> None:
        order = given.order
        self.lost_workers += 1
        url = parse_url(order.request.url).redacted
        log.warning("no word of the worker that fetches %s for %.0f s: another goes on", url, self._lease)
        kind = WorkerLostError if given.has_begun else HandedBackError  # else it only waited for its turn
        error = kind(
            f"fetch of {url} stands still",
            cause=f"no word of its worker for {self._lease:.0f} s",
            remedy="it is gone on with elsewhere",
            url=url,
        )
        self._emit(Failed(order.fetch, order.generation, error, progressed=given.has_moved))

    def _send_again(self, untaken: Sequence[_Given], now: float) -> None:
        seats = _seats(untaken)
        if not seats:
            return
        self.lost_tasks += len(seats)
        log.warning("%d tasks were lost on the way to the workers: sent again", len(seats))
        with self._lock:
            for given in untaken:
                given.heard_at = now
            cancelled = [(g.order.fetch, g.order.generation) for g in untaken if g.is_cancelled]
        self._book.put([order for seat in seats for order in seat])
        self._book.cancel(cancelled)
        self._tasks.send([_task(seat) for seat in seats])

    # -- parts ----------------------------------------------------------------------------------

    def _note(self, seat: tuple[FetchOrder, ...]) -> None:
        now = self._clock.monotonic()
        with self._lock:
            for order in seat:
                self._given[order.fetch] = _Given(order, seat, now)


def _seats(given: Iterable[_Given]) -> list[tuple[FetchOrder, ...]]:
    """The seats of these orders, without those that are not among them."""
    wanted = list(given)
    known = {id(one.seat): one.seat for one in wanted}
    orders = {one.order for one in wanted}
    return [tuple(order for order in seat if order in orders) for seat in known.values()]


def _task(seat: Sequence[FetchOrder]) -> Task:
    first = parse_url(seat[0].request.url)
    more = f" and {len(seat) - 1} more" if len(seat) > 1 else ""
    return Task(
        FETCH_TASK,
        [[[order.fetch, order.generation] for order in seat]],
        FETCH_QUEUE,
        f"{first.name or first.redacted} of {first.origin}{more}",
        seat[0].request.request_id,
    )

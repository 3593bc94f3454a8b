"""Fetches for a program that has no server: asked for now, there when they are needed."""

from __future__ import annotations

import atexit
import random
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from stager.clock import Clock, SystemClock
from stager.errors import ConflictError, StagerError
from stager.farm.base import Fetch, cancelled_error
from stager.farm.threads import ThreadFarm
from stager.farm.turns import Turns
from stager.model.backoff import RetryPolicy
from stager.model.fetches import Failed, FetchOrder, FetchRequest, FetchResult, Progress, Ready, Signal
from stager.model.urls import parse_url
from stager.service.timer import ThreadTimer, Timer

if TYPE_CHECKING:
    from stager.cache.store import FileCache
    from stager.transfer.fetcher import Fetcher


class FetchHandle:
    """One request's view of its fetch; stays valid after the service is closed. Safe in any thread.

    ``await handle`` gives the result in any event loop; a task that is cancelled while it waits
    stops waiting, and the fetch goes on.
    """

    def __init__(self, request: FetchRequest, cancel: Callable[[FetchHandle], bool]) -> None:
        self.request = request
        self._cancel = cancel
        self._bytes: tuple[int, int | None] = (0, None)
        self._future: Future[FetchResult] = Future()
        self._future.set_running_or_notify_cancel()  # only `cancel` below cancels, never a waiting task

    def __repr__(self) -> str:
        state = "done" if self.done() else "{} of {} bytes".format(*self._bytes)
        return f"<FetchHandle {parse_url(self.request.url).redacted} {state}>"

    def done(self) -> bool:
        """Whether `result` would return, or raise, at once."""
        return self._future.done()

    def progress(self) -> tuple[int, int | None]:
        """Bytes in place so far, and of how many (None: not known yet)."""
        return self._bytes

    def result(self, timeout: float | None = None) -> FetchResult:
        """Wait for the file, at most `timeout` seconds (None: for ever).

        Raises:
            TimeoutError: not done by then; the fetch goes on.
            StagerError: the fetch failed for good, or was cancelled (`CancelledError`).
        """
        return self._future.result(timeout)

    def cancel(self) -> bool:
        """Give the request up; False if it was done already.

        The transfer ends, keeping its bytes for another time, unless another request waits for it.
        """
        return self._cancel(self)

    def add_done_callback(self, callback: Callable[[FetchHandle], object]) -> None:
        """Call `callback` with this handle once it is done: in a thread of the service, or here and now.

        What it raises is logged.
        """
        self._future.add_done_callback(lambda _: callback(self))

    def __await__(self) -> Generator[Any, None, FetchResult]:
        import asyncio

        return asyncio.wrap_future(self._future).__await__()


@dataclass(eq=False, slots=True)
class _Flight:
    """One transfer and the handles that wait for it."""

    id: str
    request: FetchRequest
    origin: str
    handles: list[FetchHandle] = field(default_factory=list)
    generation: int = 0
    running: bool = False
    tries: int = 0
    """In a row, without progress."""
    started: float | None = None

    def serves(self, request: FetchRequest) -> bool:
        """Whether what it brings is what `request` asks for."""
        mine = self.request
        if not self.handles or mine.expected != request.expected or mine.size != request.size:
            return False  # without handles: cancelled, and on its way out
        if mine.owner != request.owner:
            return False  # it is made with that one's credentials
        return mine.refresh or not request.refresh

    def order(self) -> FetchOrder:
        return FetchOrder(self.id, self.generation, self.request)


class FetchService:
    """Brings URLs into a cache in the background, each once, however many ask for it.

    Requests for the same URL and digest share one transfer; requests for the same URL with
    different digests follow one another, so that the later one finds what the earlier one brought.
    A transient failure is tried again after a growing wait that occupies no thread; a permanent one
    is reported at once.

    Nothing runs before the first request. As a context manager it waits at the end for what was
    asked for, or gives it up when the block raised. A service that is not closed gives up at the
    interpreter's exit; what was transferred is kept for resuming.

    Args:
        cache: where the files go; None: `stager.urlcache`.
        threads: transfers at once.
        origin_connections: transfers at once from one origin.
        retry: how often and how long a fetch is tried.
        fetch: one try; None: the HTTP transfer with its default options.
        clock: for the waits.
        timer: calls back after the waits.
        jitter: random numbers in [0, 1) that spread the waits.
    """

    def __init__(
        self,
        cache: FileCache | None = None,
        *,
        threads: int = 8,
        origin_connections: int = 6,
        retry: RetryPolicy | None = None,
        fetch: Fetch | None = None,
        clock: Clock | None = None,
        timer: Timer | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._cache = cache
        self._fetch = fetch
        self._own: _HttpFetch | None = None
        self._threads = threads
        self._retry = retry or RetryPolicy()
        self._clock = clock or SystemClock()
        self._timer = timer or ThreadTimer(self._clock)
        self._jitter = jitter
        self._farm: ThreadFarm | None = None
        self._lock = threading.Lock()
        self._emptied = threading.Condition(self._lock)
        self._turns: Turns[str] = Turns(threads, origin_connections)
        self._numbers = count(1)
        self._flights: dict[str, _Flight] = {}
        self._by_key: dict[str, list[_Flight]] = {}  # the first is on, the others wait for it to end
        self._closed = False
        self._stopping = False

    def prefetch(self, request: FetchRequest | str) -> FetchHandle:
        """Ask for a file; returns at once.

        Raises:
            InputError: not a URL.
            ConflictError: the service is closed.
            CacheError: the default cache can't be used.
        """
        request = FetchRequest(request) if isinstance(request, str) else request
        handle = FetchHandle(request, self._give_up)
        with self._lock:
            if self._closed:
                raise ConflictError("the fetch service is closed", remedy="make a new one")
            if self._farm is None:
                self._farm = self._open()
            flight = self._join(request) or self._begin(request)
            flight.handles.append(handle)
            handle._bytes = flight.handles[0]._bytes  # noqa: SLF001 - the two classes are one unit
            orders = self._next_orders()
        self._start(orders)
        return handle

    def close(self, *, cancel: bool = False) -> None:
        """Take no more requests, wait until all are done (with `cancel`: given up), end all threads.

        Called from a callback, it does not wait for the thread that it runs in.
        """
        with self._lock:
            self._closed = True
            self._stopping = self._stopping or cancel
            handles = [h for f in self._flights.values() for h in f.handles] if cancel else []
        for handle in handles:
            handle.cancel()
        with self._lock:
            self._emptied.wait_for(lambda: not self._flights)
        self._timer.close()
        if self._farm is not None:
            self._farm.close()
        atexit.unregister(self._exit)
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(cancel=kind is not None)

    # -- the queue; all under the lock -----------------------------------------------------------

    def _open(self) -> ThreadFarm:
        if self._fetch is None:
            if self._cache is None:
                from stager import urlcache

                self._cache = urlcache
            self._own = _HttpFetch(self._cache)
        fetch = self._fetch or self._own
        assert fetch is not None
        atexit.register(self._exit)
        return ThreadFarm(fetch, self._hear, size=self._threads)

    def _join(self, request: FetchRequest) -> _Flight | None:
        for flight in self._by_key.get(request.key, ()):
            if flight.serves(request):
                if request.priority > flight.request.priority:
                    flight.request = replace(flight.request, priority=request.priority)
                    if flight.id in self._turns:
                        self._turns.add(flight.id, flight.origin, request.priority)
                return flight
        return None

    def _begin(self, request: FetchRequest) -> _Flight:
        flight = _Flight(str(next(self._numbers)), request, parse_url(request.url).origin)
        self._flights[flight.id] = flight
        queue = self._by_key.setdefault(request.key, [])
        queue.append(flight)
        if flight is queue[0]:
            self._turns.add(flight.id, flight.origin, request.priority)
        return flight

    def _next_orders(self) -> list[FetchOrder]:
        orders: list[FetchOrder] = []
        while not self._stopping and (item := self._turns.next()) is not None:
            flight = self._flights[item]
            flight.generation += 1
            flight.running = True
            if flight.started is None:
                flight.started = self._clock.monotonic()
            orders.append(flight.order())
        return orders

    def _end(self, flight: _Flight) -> list[FetchHandle]:
        """Forget the flight and let the next one of its key wait for its turn; its handles are returned."""
        del self._flights[flight.id]
        queue = self._by_key[flight.request.key]
        queue.remove(flight)
        if not queue:
            del self._by_key[flight.request.key]
        elif not queue[0].generation:
            self._turns.add(queue[0].id, queue[0].origin, queue[0].request.priority)
        if not self._flights:
            self._emptied.notify_all()
        handles, flight.handles = flight.handles, []
        return handles

    # -- what happens; each takes the lock itself and tells nobody while holding it ---------------

    def _start(self, orders: list[FetchOrder]) -> None:
        assert self._farm is not None
        for order in orders:
            self._farm.start(order)
            with self._lock:
                flight = self._flights.get(order.fetch)
                abandoned = flight is not None and not flight.handles
            if abandoned:  # given up before the farm knew it
                self._farm.cancel(order.fetch, order.generation)

    def _hear(self, signal: Signal) -> None:
        """A signal of the farm."""
        handles: list[FetchHandle] = []
        with self._lock:
            flight = self._flights.get(signal.fetch)
            if flight is None or flight.generation != signal.generation:
                return
            if isinstance(signal, Progress):
                for handle in flight.handles:
                    handle._bytes = (signal.received, signal.total)  # noqa: SLF001 - one unit
                return
            if isinstance(signal, Ready | Failed):
                flight.running = False
                self._turns.leave(flight.origin)
                if isinstance(signal, Ready) or not self._try_again(flight, signal):
                    handles = self._end(flight)
            orders = self._next_orders()
        self._start(orders)
        for handle in handles:
            if isinstance(signal, Ready):
                handle._bytes = (signal.result.size, signal.result.size)  # noqa: SLF001 - one unit
                handle._future.set_result(signal.result)  # noqa: SLF001
            else:
                assert isinstance(signal, Failed)
                handle._future.set_exception(_final(signal.error, flight.tries))  # noqa: SLF001

    def _try_again(self, flight: _Flight, failed: Failed) -> bool:
        """Whether another try was arranged."""
        flight.tries = 1 if failed.progressed else flight.tries + 1
        if not failed.error.transient or not flight.handles:
            return False
        assert flight.started is not None
        at = self._retry.next_try(
            flight.tries,
            started=flight.started,
            now=self._clock.monotonic(),
            jitter=self._jitter(),
            retry_after=getattr(failed.error, "retry_after", None),
        )
        if at is None:
            return False
        self._timer.call_at(at, partial(self._rested, flight.id))
        return True

    def _rested(self, item: str) -> None:
        """The wait before another try is over."""
        with self._lock:
            flight = self._flights.get(item)
            if flight is None:
                return
            self._turns.add(item, flight.origin, flight.request.priority)
            orders = self._next_orders()
        self._start(orders)

    def _give_up(self, handle: FetchHandle) -> bool:
        """See `FetchHandle.cancel`."""
        with self._lock:
            flight = next((f for f in self._by_key.get(handle.request.key, ()) if handle in f.handles), None)
            if flight is None:
                return False
            flight.handles.remove(handle)
            running = flight.running
            if not flight.handles and not running:
                self._turns.discard(flight.id)
                self._end(flight)
            orders = self._next_orders()
            abandoned = running and not flight.handles
        self._start(orders)
        if abandoned and self._farm is not None:
            self._farm.cancel(flight.id, flight.generation)
        handle._future.set_exception(cancelled_error(handle.request))  # noqa: SLF001 - one unit
        return True

    def _exit(self) -> None:
        self.close(cancel=True)


class _HttpFetch:
    """The HTTP transfer as the settings say, imported and made in the thread of the first try."""

    def __init__(self, cache: FileCache) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._fetcher: Fetcher | None = None

    def __call__(
        self,
        order: FetchOrder,
        *,
        progress: Callable[[int, int | None, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> FetchResult:
        return self._ready().fetch(order, progress=progress, cancelled=cancelled)

    def _ready(self) -> Fetcher:
        with self._lock:
            if self._fetcher is None:
                from stager import default_fetcher

                self._fetcher = default_fetcher(self._cache)
            return self._fetcher

    def close(self) -> None:
        if self._fetcher is not None:
            self._fetcher.close()


def _final(error: StagerError, tries: int) -> StagerError:
    """What the caller sees after the last try."""
    return error.with_cause(f"{error.cause}; tried {tries} times") if error.transient and tries > 1 else error

"""Fetches as async I/O in this process: one thread waits for all origins."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Protocol

from stager.errors import ConflictError, StagerError
from stager.farm.base import Emit, cancelled_error, unexpected_error
from stager.farm.side_threads import SideThreads
from stager.model.fetches import Failed, FetchOrder, FetchResult, Progress, Ready, Signal, Started

_log = logging.getLogger(__name__)


class Attempt(Protocol):
    """One try in an event loop."""

    def wake(self) -> None:
        """Look at once whether it was cancelled; in the loop's thread."""
        ...


class AsyncFetcher(Protocol):
    """What makes tries in an event loop, and holds connections meanwhile."""

    def attempt(
        self,
        order: FetchOrder,
        *,
        progress: Callable[[int, int | None, int], None] | None,
        cancelled: Callable[[], bool],
        ended: Callable[[FetchResult | BaseException], object],
    ) -> Any:
        """An `Attempt`, not yet begun; what it is given is called in any thread."""
        ...

    async def work(self, following: Callable[[], Any]) -> None:
        """Make the tries that `following` gives, one after another; it is called in a thread that may wait."""
        ...

    async def close(self) -> None:
        """Let the connections go."""
        ...


class _Taken:
    """An order that was taken, and whether it was cancelled."""

    def __init__(self, order: FetchOrder) -> None:
        self.order = order
        self.stopped = False
        self.attempt: Attempt | None = None

    def is_stopped(self) -> bool:
        return self.stopped

    def wake(self) -> None:
        if self.attempt is not None:
            self.attempt.wake()


class AioFarm:
    """Runs at most `size` tries at once; more orders wait in the order in which they came.

    One thread runs an event loop; a few others, woken as needed, do what may take a while (disks,
    digests, listeners). All are daemons: what they were writing is an ordinary leftover.

    Args:
        make: makes what fetches, in the loop's thread; it is given the other threads.
        emit: told of every signal, never in the loop's thread; its exceptions are logged.
        size: tries at once.
    """

    outlives = False

    def __init__(self, make: Callable[[SideThreads], AsyncFetcher], emit: Emit, *, size: int) -> None:
        self._emit = emit
        self._size = size
        self._lock = threading.Lock()
        self._tries: dict[tuple[str, int], _Taken] = {}
        self._queue: deque[deque[_Taken]] = deque()
        self._seated = 0
        self._closed = False
        self._off: SideThreads | None = None  # made in the loop's thread
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(make,), name="fetch-loop", daemon=True)
        self._thread.start()

    def start(self, order: FetchOrder, then: Sequence[FetchOrder] = ()) -> None:
        """See `Farm.start`.

        Raises:
            ConflictError: the farm is closed.
        """
        with self._lock:
            if self._closed:
                raise ConflictError(f"fetch {order.fetch} can't start", cause="the farm is closed")
            group: deque[_Taken] = deque()
            for one in (order, *then):
                if (one.fetch, one.generation) not in self._tries:
                    taken = self._tries[one.fetch, one.generation] = _Taken(one)
                    group.append(taken)
            if group:
                self._queue.append(group)
                if self._seated < self._size:
                    self._seated += 1
                    self._loop.call_soon_threadsafe(self._seat)

    def adopt(self, order: FetchOrder) -> None:
        """See `Farm.adopt`: these tries end with their process."""
        raise ConflictError(f"fetch {order.fetch} can't be adopted", cause="it ended with its process")

    def holds(self, fetch: str, generation: int) -> bool:
        """See `Farm.holds`."""
        with self._lock:
            return (fetch, generation) in self._tries

    def cancel(self, fetch: str, generation: int) -> None:
        """See `Farm.cancel`."""
        with self._lock:
            taken = self._tries.get((fetch, generation))
            if taken is not None:
                taken.stopped = True
                self._loop.call_soon_threadsafe(taken.wake)

    def close(self, *, wait: bool = True) -> None:
        """See `Farm.close`; may be called again, and by a listener (which it does not wait for)."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for taken in self._tries.values():
                    taken.stopped = True
                    self._loop.call_soon_threadsafe(taken.wake)
                self._loop.call_soon_threadsafe(self._ended.set)
        listener = self._off is not None and self._off.has(threading.current_thread())
        if wait and not listener:
            self._thread.join()

    # -- in the loop's thread ---------------------------------------------------------------------

    def _run(self, make: Callable[[SideThreads], AsyncFetcher]) -> None:
        with closing(self._loop):
            self._loop.run_until_complete(self._live(make))

    async def _live(self, make: Callable[[SideThreads], AsyncFetcher]) -> None:
        with closing(SideThreads(self._size, "fetch")) as self._off:
            self._fetcher = make(self._off)
            await self._ended.wait()
            while self._tasks:
                await asyncio.wait(self._tasks)
            await self._fetcher.close()

    def _seat(self) -> None:
        """One more works on what waits."""
        task = self._loop.create_task(self._fetcher.work(partial(self._next, deque())))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- in the other threads ---------------------------------------------------------------------

    def _next(self, group: deque[_Taken]) -> Any:
        """The next try of a seat, whose orders at hand are in `group`; None: the seat is given up."""
        while True:
            with self._lock:
                if not group:
                    if not self._queue:
                        self._seated -= 1
                        return None
                    group.extend(self._queue.popleft())
                taken = group.popleft()
            attempt = self._begin(taken)
            if attempt is not None:
                return attempt

    def _begin(self, taken: _Taken) -> Attempt | None:
        order = taken.order
        fetch, generation = order.fetch, order.generation
        self._take(Started(fetch, generation))

        def progress(received: int, total: int | None, resumed_from: int) -> None:
            self._take(Progress(fetch, generation, received, total, resumed_from))

        def ended(how: FetchResult | BaseException) -> None:
            end = self._end(order, how)
            with self._lock:
                del self._tries[fetch, generation]
            self._take(end)

        if taken.stopped:
            ended(cancelled_error(order.request))
            return None
        try:
            taken.attempt = self._fetcher.attempt(
                order, progress=progress, cancelled=taken.is_stopped, ended=ended
            )
        except Exception as error:  # noqa: BLE001 - as below
            ended(error)
        return taken.attempt

    def _end(self, order: FetchOrder, how: FetchResult | BaseException) -> Ready | Failed:
        fetch, generation = order.fetch, order.generation
        if isinstance(how, FetchResult):
            return Ready(fetch, generation, how)
        if isinstance(how, StagerError):
            return Failed(fetch, generation, how, progressed=bool(how.details.get("progressed")))
        _log.error("fetch %s broke", fetch, exc_info=how)  # a fault of one try must not end the farm
        return Failed(fetch, generation, unexpected_error(order.request, how))

    def _take(self, signal: Signal) -> None:
        try:
            self._emit(signal)
        except Exception:  # noqa: BLE001 - a listener's fault must not end the farm
            _log.exception("signal %r was not taken", signal)

"""Fetches as async I/O in this process: one thread waits for all origins."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from typing import Protocol

from stager.errors import ConflictError, StagerError
from stager.farm.base import Emit, cancelled_error, unexpected_error
from stager.model.fetches import Failed, FetchOrder, FetchResult, Progress, Ready, Signal, Started

_log = logging.getLogger(__name__)


class Attempt(Protocol):
    """One try in an event loop."""

    async def run(self, begun: Callable[[], object], ended: Callable[[FetchResult], object]) -> FetchResult:
        """See `Fetch`; `begun`, and `ended` with what it delivers, are called in a thread that may wait."""
        ...

    def wake(self) -> None:
        """Look at once whether it was cancelled."""
        ...


class AsyncFetcher(Protocol):
    """What makes tries in an event loop, and holds connections meanwhile."""

    def attempt(
        self,
        order: FetchOrder,
        *,
        progress: Callable[[int, int | None, int], None] | None,
        cancelled: Callable[[], bool],
    ) -> Attempt:
        """A try, not yet begun; `progress` and `cancelled` are called in any thread."""
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

    One thread runs an event loop; a few others, started as needed, do what may take a while (disks,
    digests, listeners). They keep the interpreter alive only as long as something is under way.

    Args:
        make: makes what fetches, in the loop's thread; it is given the other threads.
        emit: told of every signal, never in the loop's thread; its exceptions are logged.
        size: tries at once.
    """

    outlives = False

    def __init__(self, make: Callable[[Executor], AsyncFetcher], emit: Emit, *, size: int) -> None:
        self._emit = emit
        self._lock = threading.Lock()
        self._tries: dict[tuple[str, int], _Taken] = {}
        self._closed = False
        self._ours = threading.local()
        self._off = ThreadPoolExecutor(size, "fetch", initializer=self._mark)
        self._seats = asyncio.Semaphore(size)
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
            group = []
            for one in (order, *then):
                if (one.fetch, one.generation) not in self._tries:
                    taken = self._tries[one.fetch, one.generation] = _Taken(one)
                    group.append(taken)
            if group:
                self._loop.call_soon_threadsafe(self._seat, group)

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
        if wait and not getattr(self._ours, "marked", False):
            self._thread.join()

    # -- in the loop's thread ---------------------------------------------------------------------

    def _run(self, make: Callable[[Executor], AsyncFetcher]) -> None:
        with closing(self._loop), self._off:
            self._loop.run_until_complete(self._live(make))

    async def _live(self, make: Callable[[Executor], AsyncFetcher]) -> None:
        self._fetcher = make(self._off)
        await self._ended.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._fetcher.close()

    def _seat(self, group: Sequence[_Taken]) -> None:
        task = self._loop.create_task(self._one_after_another(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one_after_another(self, group: Sequence[_Taken]) -> None:
        async with self._seats:
            for taken in group:
                await self._try(taken)

    async def _try(self, taken: _Taken) -> None:
        order = taken.order
        failed: Failed
        try:
            if taken.stopped:
                await self._tell(Started(order.fetch, order.generation))
                raise cancelled_error(order.request)  # noqa: TRY301 - it ends like any other
            await self._fetch(taken)
        except StagerError as error:
            progressed = bool(error.details.get("progressed"))
            failed = Failed(order.fetch, order.generation, error, progressed=progressed)
        except Exception as error:  # noqa: BLE001 - a fault of one try must not end the farm
            _log.exception("fetch %s broke", order.fetch)
            failed = Failed(order.fetch, order.generation, unexpected_error(order.request, error))
        else:
            return
        self._forget(order)
        await self._tell(failed)

    async def _fetch(self, taken: _Taken) -> None:
        order = taken.order
        fetch, generation = order.fetch, order.generation

        def begun() -> None:
            self._take(Started(fetch, generation))

        def progress(received: int, total: int | None, resumed_from: int) -> None:
            self._take(Progress(fetch, generation, received, total, resumed_from))

        def ended(result: FetchResult) -> None:
            self._forget(order)
            self._take(Ready(fetch, generation, result))

        attempt = self._fetcher.attempt(order, progress=progress, cancelled=taken.is_stopped)
        taken.attempt = attempt
        if taken.stopped:
            attempt.wake()
        await attempt.run(begun, ended)

    async def _tell(self, signal: Signal) -> None:
        await self._loop.run_in_executor(self._off, self._take, signal)

    # -- in any thread ----------------------------------------------------------------------------

    def _forget(self, order: FetchOrder) -> None:
        with self._lock:
            del self._tries[order.fetch, order.generation]

    # -- in the other threads ---------------------------------------------------------------------

    def _mark(self) -> None:
        self._ours.marked = True

    def _take(self, signal: Signal) -> None:
        try:
            self._emit(signal)
        except Exception:  # noqa: BLE001 - a listener's fault must not end the farm
            _log.exception("signal %r was not taken", signal)

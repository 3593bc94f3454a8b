"""Fetches on threads of this process."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence

from stager.errors import ConflictError, StagerError
from stager.farm.base import Emit, Fetch, cancelled_error, unexpected_error
from stager.model.fetches import Failed, FetchOrder, Progress, Ready, Signal, Started

_log = logging.getLogger(__name__)


class ThreadFarm:
    """Runs at most `size` tries at once; more orders wait in the order in which they came.

    Threads are started when there is work for them and stay until `close`. They are daemons, so
    that a forgotten `close` can't keep the interpreter from ending; what they were writing is then
    an ordinary leftover that the next try of the same key takes over.

    Args:
        fetch: one try; called in the farm's threads.
        emit: told of every signal, in the thread of the try; its exceptions are logged.
        size: threads at most.
    """

    outlives = False

    def __init__(self, fetch: Fetch, emit: Emit, *, size: int) -> None:
        self._fetch = fetch
        self._emit = emit
        self._size = size
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._queue: deque[list[tuple[FetchOrder, threading.Event]]] = deque()
        self._tries: dict[tuple[str, int], threading.Event] = {}
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def start(self, order: FetchOrder, then: Sequence[FetchOrder] = ()) -> None:
        """See `Farm.start`.

        Raises:
            ConflictError: the farm is closed.
        """
        with self._lock:
            if self._closed:
                raise ConflictError(f"fetch {order.fetch} can't start", cause="the farm is closed")
            taken = []
            for one in (order, *then):
                if (one.fetch, one.generation) not in self._tries:
                    stop = self._tries[one.fetch, one.generation] = threading.Event()
                    taken.append((one, stop))
            if not taken:
                return
            self._queue.append(taken)
            if self._idle >= len(self._queue):
                self._work.notify()
            elif len(self._threads) < self._size:
                name = f"fetch-{len(self._threads) + 1}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def adopt(self, order: FetchOrder) -> None:
        """See `Farm.adopt`: threads end with their process."""
        raise ConflictError(f"fetch {order.fetch} can't be adopted", cause="it ended with its process")

    def holds(self, fetch: str, generation: int) -> bool:
        """See `Farm.holds`."""
        with self._lock:
            return (fetch, generation) in self._tries

    def cancel(self, fetch: str, generation: int) -> None:
        """See `Farm.cancel`."""
        with self._lock:
            stop = self._tries.get((fetch, generation))
        if stop is not None:
            stop.set()

    def close(self, *, wait: bool = True) -> None:
        """See `Farm.close`; may be called again, and from a thread of the farm (which it does not wait for)."""
        with self._lock:
            self._closed = True
            for stop in self._tries.values():
                stop.set()
            self._work.notify_all()
        if wait:
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._queue:
                    if self._closed:
                        return
                    self._idle += 1
                    self._work.wait()
                    self._idle -= 1
                taken = self._queue.popleft()
            for order, stop in taken:
                self._try(order, stop)

    def _try(self, order: FetchOrder, stop: threading.Event) -> None:
        fetch, generation = order.fetch, order.generation

        def progress(received: int, total: int | None, resumed_from: int) -> None:
            self._tell(Progress(fetch, generation, received, total, resumed_from))

        self._tell(Started(fetch, generation))
        end: Signal
        try:
            if stop.is_set():
                end = Failed(fetch, generation, cancelled_error(order.request))
            else:
                end = Ready(fetch, generation, self._fetch(order, progress=progress, cancelled=stop.is_set))
        except StagerError as error:
            end = Failed(fetch, generation, error, progressed=bool(error.details.get("progressed")))
        except Exception as error:  # noqa: BLE001 - a fault of one try must not end the farm
            _log.exception("fetch %s broke", fetch)
            end = Failed(fetch, generation, unexpected_error(order.request, error))
        with self._lock:
            del self._tries[fetch, generation]
        self._tell(end)

    def _tell(self, signal: Signal) -> None:
        try:
            self._emit(signal)
        except Exception:  # noqa: BLE001 - a listener's fault must not end the farm
            _log.exception("signal %r was not taken", signal)

"""The threads of a process that does nothing but fetch, and what they have to report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from stager.errors import StagerError
from stager.farm.base import Fetcher, cancelled_error, unexpected_error
from stager.farm.sizing import Reading, Sizing
from stager.farm.turns import Turns
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult

BATCH = 32
"""Completed files that are reported together: enough that the pipe costs little per file."""
SIZING_SECONDS = 0.15
"""Between two readings; long enough for a stable throughput, short enough to matter."""

Order = tuple[int, int]
"""Index of the request, generation of the try."""


class Brought(NamedTuple):
    """The file of request `number` is there: a `FetchResult` in plain values, cheap to send and to make."""

    number: int
    sha256: str
    size: int
    path: str
    cached: bool
    seconds: float
    received: int
    resumed_from: int
    unproven: bool
    tried: tuple[dict[str, Any], ...] = ()
    source: str = ""

    @classmethod
    def of(cls, number: int, result: FetchResult) -> Brought:
        """The same of a `FetchResult`."""
        return cls(
            number,
            result.sha256,
            result.size,
            str(result.location),
            result.cached,
            result.seconds,
            result.received,
            result.resumed_from,
            result.unproven,
            result.tried,
            result.source,
        )


class Batch(NamedTuple):
    """What a process reports; plain values only, it goes through a pipe."""

    threads: int
    done: list[tuple[Any, ...]]
    """The fields of `Brought`."""
    failed: list[tuple[int, dict[str, Any]]]
    """Index and `StagerError.to_dict`."""
    progress: dict[int, tuple[int, int | None]]
    """By index: bytes in place, of how many."""


class Crew:
    """Works on orders with as many threads as `sizing` says.

    Args:
        fetcher: makes the tries; closed by the caller.
        requests: what the orders' indexes mean.
        sizing: how many threads.
        per_origin: files of one origin at once, transferred or stored.
        report: takes a batch; called by one thread at a time.
        progress: whether progress within files is reported too.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        requests: Sequence[FetchRequest],
        *,
        sizing: Sizing,
        per_origin: int,
        report: Callable[[Batch], None],
        progress: bool,
    ) -> None:
        self._fetcher = fetcher
        self._requests = requests
        self._sizing = sizing
        self._report = report
        self._reporting = threading.Lock()
        self._with_progress = progress
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._turns: Turns[Order] = Turns(1 << 30, per_origin)  # the threads are the seats
        self._threads: list[threading.Thread] = []
        self._surplus = 0
        self._stopped = False
        self._batch = Batch(1, [], [], {})
        self._completed = 0
        self._read_at = (time.monotonic(), wanted_cpu(), 0)
        self._grow()

    def add(self, orders: Sequence[Order]) -> None:
        """Take orders."""
        with self._lock:
            for order in orders:
                request = self._requests[order[0]]
                self._turns.add((order[0], order[1]), request.origin, request.priority)
            self._work.notify_all()

    def flush(self) -> None:
        """Report what is known and not reported yet."""
        with self._reporting:
            with self._lock:
                batch = self._batch
                self._batch = Batch(self._sizing.size, [], [], {})
            if batch.done or batch.failed or batch.progress or batch.threads != self._sizing.size:
                self._report(batch._replace(threads=self._sizing.size))

    def measure(self) -> None:
        """Adapt the number of threads to what they achieved, if it is time to."""
        now = time.monotonic()
        wall = now - self._read_at[0]
        if wall < SIZING_SECONDS:
            return
        cpu, completed = wanted_cpu(), self._completed
        reading = Reading(wall, max(0.0, cpu - self._read_at[1]), completed - self._read_at[2])
        self._read_at = (now, cpu, completed)
        with self._lock:
            if not self._turns:
                return  # too little to do for more threads
            size = self._sizing.read(reading)
            self._surplus = max(0, len(self._threads) - size)
            self._work.notify_all()
        while len(self._threads) < size:
            self._grow()

    def close(self) -> None:
        """Break off what is on, keeping what is resumable, and wait for the threads."""
        with self._lock:
            self._stopped = True
            self._work.notify_all()
        for thread in list(self._threads):
            thread.join()

    def _grow(self) -> None:
        thread = threading.Thread(target=self._run, name=f"fetch-{len(self._threads) + 1}")
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        order = self._next(None)
        while order is not None:
            index, _ = order
            request = self._requests[index]
            done: tuple[Any, ...] | None = None
            failed: StagerError | None = None
            following: list[Order] = []
            try:
                done = self._one(order, following)
            except StagerError as error:
                failed = error
            except Exception as error:  # noqa: BLE001 - a fault of one try must not end the thread
                failed = unexpected_error(request, error)
            with self._lock:
                if done is not None:
                    self._batch.done.append(done)
                elif failed is not None:
                    self._batch.failed.append((index, failed.to_dict()))
                self._batch.progress.pop(index, None)
                self._completed += 1
                full = len(self._batch.done) >= BATCH or not self._turns
            if full:
                self.flush()
            order = self._next(request, following)

    def _look_ahead(self, following: list[Order]) -> None:
        """Take the next order while the present one is stored, so that the origin works meanwhile."""
        with self._lock:
            order = None if self._stopped or self._surplus else self._turns.next()
        if order is not None:
            following.append(order)
            self._fetcher.announce(self._order(order))

    def _order(self, order: Order) -> FetchOrder:
        index, generation = order
        return FetchOrder(str(index), generation, self._requests[index])

    def _next(self, previous: FetchRequest | None, following: Sequence[Order] = ()) -> Order | None:
        """The order that was taken already, or wait for one; None when this thread is not needed any more."""
        with self._lock:
            if previous is not None:
                self._turns.leave(previous.origin)
            if following:
                return following[0]
            while not self._stopped:
                if self._surplus:
                    self._surplus -= 1
                    break
                order = self._turns.next()
                if order is not None:
                    return order
                self._work.wait()
            self._threads.remove(threading.current_thread())
            return None

    def _one(self, order: Order, following: list[Order]) -> tuple[Any, ...]:
        index = order[0]
        if self._stopped:
            raise cancelled_error(self._requests[index])

        def progress(received: int, total: int | None, _resumed_from: int) -> None:
            with self._lock:
                self._batch.progress[index] = (received, total)

        result = self._fetcher.fetch(
            self._order(order),
            progress=progress if self._with_progress else None,
            cancelled=lambda: self._stopped,
            received=lambda: self._look_ahead(following),
        )
        return tuple(Brought.of(index, result))


def wanted_cpu() -> float:
    """Seconds that this process's threads computed, or would have, had another process not had the core.

    The second part matters: a process that waits for a core does not get more done with more threads.
    """
    total = 0
    try:
        for thread in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                computed, waited, _ = (thread / "schedstat").read_bytes().split()
                total += int(computed) + int(waited)
    except OSError:  # no such statistics in this kernel
        return time.process_time()
    return total / 1e9 or time.process_time()

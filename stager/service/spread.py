"""Very many files at once: spread over processes, each of which finds out how many threads it needs."""

from __future__ import annotations

import random
import select
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from zlib import crc32

from stager.errors import FetchError, StagerError, error_from_dict
from stager.farm.base import Fetcher
from stager.farm.crew import Batch, Brought
from stager.farm.processes import FetchProcess
from stager.model.backoff import RetryPolicy
from stager.model.fetches import FetchRequest
from stager.model.urls import parse_url
from stager.service.batch import TICK_SECONDS, Missed, Moved, Report, nothing

MOST_THREADS = 16
"""Threads of one process; more gain nothing where one interpreter is shared."""
STORING = 12
"""Files of one origin that a process may have besides those that are transferred: they wait for the disk."""
CREDIT_SECONDS = 0.1
"""Work that a process is given in advance: enough never to starve, little enough to end together."""
MOST_CREDIT = 512
MOST_DEATHS = 2
"""How many processes a file may see killed before it counts as the reason: one in company, one alone."""

MOST_BURIED = 20
"""Processes that may die in a row without a single file being completed."""


def fetch_spread(
    make: Callable[[int], Fetcher],
    requests: Sequence[FetchRequest],
    *,
    processes: int,
    origin_connections: int = 6,
    retry: RetryPolicy | None = None,
    progress: bool = False,
    tick: Callable[[], None] = nothing,
) -> Generator[Report, None, None]:
    """Fetch all in forked processes; the calling process must have no other thread.

    A process that is killed costs nothing but time: another one does what it had not reported.
    Closing the iterator, or an interrupt, gives up what is not done; its bytes are kept for resuming.

    Args:
        make: makes what fetches, in each process; it is told how many connections to one origin it may have.
        requests: of distinct URLs.
        processes: how many.
        origin_connections: transfers at once from one origin, by all processes together.
        retry: how often and how long a fetch is tried.
        progress: whether progress within files is reported.
        tick: called about ten times per second.
    """
    spread = _Spread(make, requests, processes, origin_connections, retry or RetryPolicy(), progress=progress)
    try:
        while spread.unfinished:
            yield from spread.step()
            tick()
    finally:
        spread.close()


@dataclass(eq=False)
class _Worker:
    process: FetchProcess
    number: int
    orders: dict[int, int] = field(default_factory=dict)
    """Given and not reported: index → generation."""
    threads: int = 1
    rate: float = 0.0
    heard: float = 0.0

    @property
    def credit(self) -> int:
        """How many orders it should hold."""
        return min(max(2 * self.threads, int(self.rate * CREDIT_SECONDS)), MOST_CREDIT)


class _Spread:
    """Who does what; decided here, in one thread."""

    def __init__(
        self,
        make: Callable[[int], Fetcher],
        requests: Sequence[FetchRequest],
        processes: int,
        origin_connections: int,
        retry: RetryPolicy,
        *,
        progress: bool,
    ) -> None:
        self._make = make
        self._requests = requests
        self._progress = progress
        self._retry = retry
        self._origin_connections = origin_connections
        self._processes = processes
        self._queues: dict[str, deque[int]] = {}  # by origin
        for index, request in enumerate(requests):
            self._queues.setdefault(request.origin, deque()).append(index)
        self.unfinished = len(requests)
        self._resting: list[tuple[float, int]] = []
        self._tries: dict[
            int, tuple[int, int, float]
        ] = {}  # of those that failed: generation, tries, first failure
        self._deaths: dict[int, int] = {}
        self._buried = 0  # since the last file was completed
        self._suspects: deque[int] = deque()  # each goes alone, so that the blame is clear
        self._poll = select.poll()
        self._workers: dict[int, _Worker] = {}
        for number in range(processes):
            self._fork(number)

    def step(self) -> list[Report]:
        """Hand out what can be done, wait a moment, take what is reported."""
        now = time.monotonic()
        while self._resting and self._resting[0][0] <= now:
            self._again(heappop(self._resting)[1])
        for worker in self._workers.values():
            self._give(worker)
        wait = TICK_SECONDS
        if self._resting:
            wait = min(wait, max(0.0, self._resting[0][0] - now))
        reports: list[Report] = []
        for fd, _ in self._poll.poll(wait * 1000):
            worker = self._workers[fd]
            batches = worker.process.receive()
            if batches is None:
                self._bury(worker, reports)
                continue
            for batch in batches:
                self._hear(worker, batch, reports)
            self._give(worker)  # before the caller gets to look at what came
        self.unfinished -= sum(not isinstance(report, Moved) for report in reports)
        return reports

    def close(self) -> None:
        """End all processes; what they were transferring is kept."""
        for worker in self._workers.values():
            worker.process.stop()
        for worker in self._workers.values():
            worker.process.close()
        self._workers.clear()

    # -- giving ----------------------------------------------------------------------------------

    def _give(self, worker: _Worker) -> None:
        room = worker.credit - len(worker.orders)
        if room <= 0 or (len(worker.orders) == 1 and next(iter(worker.orders)) in self._deaths):
            return
        indexes: list[int] = []
        for origin, queue in list(self._queues.items()):
            if not self._may(worker, origin):
                continue
            while queue and len(indexes) < room:
                indexes.append(queue.popleft())
            if not queue:
                del self._queues[origin]
        if not indexes and not worker.orders and self._suspects:
            indexes.append(self._suspects.popleft())
        if indexes:
            orders = [(index, self._tries[index][0] if index in self._tries else 1) for index in indexes]
            worker.orders.update(orders)
            worker.process.send(orders)

    def _may(self, worker: _Worker, origin: str) -> bool:
        """Whether the origin allows so many processes; if not, some are chosen by its name."""
        allowed = min(self._processes, self._origin_connections)
        return (worker.number - crc32(origin.encode())) % self._processes < allowed

    def _again(self, index: int) -> None:
        self._queues.setdefault(self._requests[index].origin, deque()).append(index)

    # -- hearing ---------------------------------------------------------------------------------

    def _hear(self, worker: _Worker, batch: Batch, reports: list[Report]) -> None:
        now = time.monotonic()
        worker.threads = batch.threads
        count = len(batch.done) + len(batch.failed)
        if count:
            self._buried = 0
            rate = count / max(now - worker.heard, 1e-3)
            worker.rate = rate if not worker.rate else 0.5 * (worker.rate + rate)
            worker.heard = now
        for packed in batch.done:
            del worker.orders[packed[0]]
            reports.append(Brought._make(packed))
        for index, error in batch.failed:
            generation = worker.orders.pop(index)
            failed = error_from_dict(error)
            if not self._try_again(index, generation, failed, now):
                reports.append(Missed(index, failed))
        for index, amounts in batch.progress.items():
            reports.append(Moved(index, *amounts))

    def _try_again(self, index: int, generation: int, error: StagerError, now: float) -> bool:
        """Whether another try was arranged."""
        if not error.transient:
            return False
        _, tries, started = self._tries.get(index, (1, 0, now))
        tries = 1 if error.details.get("progressed") else tries + 1
        at = self._retry.next_try(
            tries,
            started=started,
            now=now,
            jitter=random.random(),  # noqa: S311 - spreads load, hides nothing
            retry_after=getattr(error, "retry_after", None),
        )
        if at is None:
            return False
        self._tries[index] = (generation + 1, tries, started)
        heappush(self._resting, (at, index))
        return True

    # -- processes -------------------------------------------------------------------------------

    def _fork(self, number: int) -> None:
        connections = max(1, self._origin_connections // self._processes)
        process = FetchProcess(
            partial(self._make, connections),
            self._requests,
            threads=MOST_THREADS,
            per_origin=connections + STORING,
            progress=self._progress,
            inherited=[worker.process.socket for worker in self._workers.values()],
        )
        worker = _Worker(process, number, heard=time.monotonic())
        self._workers[process.socket.fileno()] = worker
        self._poll.register(process.socket, select.POLLIN)

    def _bury(self, worker: _Worker, reports: list[Report]) -> None:
        """A process died: what it had not reported is suspect, and another process takes its place."""
        fd = worker.process.socket.fileno()
        self._poll.unregister(fd)
        del self._workers[fd]
        ended = worker.process.close()
        self._buried += 1
        if self._buried > MOST_BURIED:
            raise FetchError(
                "the processes that fetch end as soon as they start",
                cause=f"the last one by {ended}",
                remedy="set fetch_processes to 1, and see whether the machine runs out of memory",
            )
        for index in worker.orders:
            self._deaths[index] = self._deaths.get(index, 0) + 1
            if self._deaths[index] < MOST_DEATHS:
                self._suspects.append(index)
            else:
                url = parse_url(self._requests[index].url).redacted
                error = FetchError(
                    f"fetch of {url} was given up",
                    cause=f"the process that fetched it ended by {ended}, twice",
                    remedy="see whether the machine runs out of memory",
                    url=url,
                )
                reports.append(Missed(index, error))
        self._fork(worker.number)

"""How fast preconditions are registered and completed, and how soon a job follows its last one.

Everything is real but the transfers (a signal stands for each) and, except for the last figure, the
job processes: the SQLite database on the given directory, the mapper, the job service. Prints:

- pairs per second registered (submission until acknowledged, that is durable) and completed (first
  completion signal until the last job is handed over), 10 inputs a job, each input shared by 10 jobs;
- the same with one URL that all jobs wait for, and the longest pause of the server meanwhile, seen by
  somebody who asks it something all the time;
- the time from a completion signal to the hand-over of the job, and to its process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from hashlib import sha256
from pathlib import Path

from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.mapper.admission import Admission
from stager.mapper.dispatch.local import LocalDispatcher
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.mapper.ports import JobPlace
from stager.model.backoff import RetryPolicy
from stager.model.entries import Entry
from stager.model.events import DispatchOrder, JobEnded, JobSignal, JobStarted
from stager.model.fetches import FetchOrder, FetchResult, Ready
from stager.model.jobs import JobInput, JobSpec
from stager.server.collector import tune_collector
from stager.service.ids import IdMaker
from stager.service.jobs import MAX_JOBS_PER_CALL, JobService
from stager.service.watch import Watch
from stager.state.store import Store

PATIENCE = 600.0


class Orders:
    """Stands for the farm: collects what it is told to start."""

    outlives = False

    def __init__(self) -> None:
        self.waiting: list[FetchOrder] = []
        self.arrived = threading.Condition()

    def start(self, order: FetchOrder, then: Sequence[FetchOrder] = ()) -> None:
        with self.arrived:
            self.waiting += (order, *then)
            self.arrived.notify_all()

    def adopt(self, order: FetchOrder) -> None: ...
    def holds(self, _fetch: str, _generation: int) -> bool:
        return True

    def cancel(self, fetch: str, generation: int) -> None: ...

    def wait_for(self, count: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.waiting) >= count, PATIENCE)


class NoJobs:
    """Stands for the place where jobs run: each is over at once; notes when it was handed over."""

    def __init__(self) -> None:
        self.handed: dict[str, float] = {}
        self.changed = threading.Condition()
        self.emit: Callable[[JobSignal], None] = lambda _: None

    def hand_over(self, order: DispatchOrder) -> None:
        with self.changed:
            self.handed[order.job] = time.perf_counter()
            self.changed.notify_all()
        self.emit(JobEnded(order.job, order.epoch, 0))

    def holds(self, _job: str, _epoch: int) -> bool:
        return True

    def stop(self, job: str, epoch: int) -> None: ...
    def clean_up(self, job: str, epoch: int) -> None: ...
    def tidy(self, open_jobs: Collection[str]) -> None: ...

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.handed) >= count, PATIENCE)


class Bench:
    """A job server without transfers."""

    def __init__(self, root: Path, place: JobPlace | None = None, seats: int = 10**9) -> None:
        clock = SystemClock()
        ids = IdMaker(clock)
        self.cache = FileCache(root / "cache")
        self.store = Store(f"sqlite:///{root / 'state.db'}")
        self.orders = Orders()
        self.none = NoJobs()
        watch = Watch()
        self.mapper = Mapper(
            lambda: Machine(
                Admission(slots=seats, per_origin=seats), RetryPolicy(), job_slots=None, fetch_ids=ids
            ),
            self.store,
            clock=clock,
            jitter=lambda: 0.0,
            on_change=watch.tell,
        )
        self.none.emit = self.mapper.job_signal
        self.jobs = JobService(self.cache, self.store, self.mapper, watch, clock=clock, ids=ids)
        self.mapper.start(self.orders, place or self.none)

    def close(self) -> None:
        self.mapper.stop()
        self.store.close()

    def submit(self, specs: list[JobSpec]) -> float:
        """Seconds until all are acknowledged."""
        began = time.perf_counter()
        for start in range(0, len(specs), MAX_JOBS_PER_CALL):
            self.jobs.submit(specs[start : start + MAX_JOBS_PER_CALL])
        return time.perf_counter() - began

    def complete(self, order: FetchOrder) -> float:
        """Say that a fetch is ready; when that was."""
        digest = sha256(order.request.url.encode()).hexdigest()
        result = FetchResult(order.request.url, digest, 1, Path("/"), cached=False)
        now = time.perf_counter()
        self.mapper.fetch_signal(Ready(order.fetch, order.generation, result))
        return now


def url(number: int) -> str:
    return f"https://data.example.org/instrument/run/{number:06d}.nxs"


def many_inputs(root: Path, pairs: int) -> None:
    jobs = pairs // 10
    bench = Bench(root)
    began = time.perf_counter()
    specs = [
        JobSpec(("/bin/fit",), tuple(JobInput(url((job + k * 977) % jobs)) for k in range(10)))
        for job in range(jobs)
    ]
    making = time.perf_counter() - began
    registering = bench.submit(specs)
    bench.orders.wait_for(jobs)
    began = time.perf_counter()
    for order in bench.orders.waiting:
        bench.complete(order)
    bench.none.wait_for(jobs)
    completing = time.perf_counter() - began
    bench.close()
    print(f"{jobs} jobs x 10 inputs = {pairs} pairs, {jobs} URLs")
    print(f"  checked     {pairs / making:10,.0f} pairs/s  (making the job specifications)")
    print(f"  registered  {pairs / registering:10,.0f} pairs/s  (durable)")
    print(f"  completed   {pairs / completing:10,.0f} pairs/s  (durable, all jobs handed over)")


def one_url(root: Path, jobs: int) -> None:
    bench = Bench(root)
    specs = [JobSpec(("/bin/fit",), (JobInput(url(1)),)) for _ in range(jobs)]
    asked = Asker(bench.mapper)
    registering = bench.submit(specs)
    while_registering = asked.longest()
    bench.orders.wait_for(1)
    began = bench.complete(bench.orders.waiting[0])
    bench.none.wait_for(jobs)
    completing = time.perf_counter() - began
    while_completing = asked.longest()
    asked.end()
    bench.close()
    print(f"{jobs} jobs that wait for one URL")
    print(
        f"  registered  {jobs / registering:10,.0f} pairs/s, longest pause {while_registering * 1e3:.1f} ms"
    )
    print(f"  completed   {jobs / completing:10,.0f} pairs/s, longest pause {while_completing * 1e3:.1f} ms")


class Asker:
    """Asks the mapper something all the time and notes the longest wait for its answer."""

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper
        self._longest = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(0.002):
            began = time.perf_counter()
            self._mapper.inspect(lambda _: None).result(PATIENCE)
            self._longest = max(self._longest, time.perf_counter() - began)

    def longest(self) -> float:
        found, self._longest = self._longest, 0.0
        return found

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def latency(root: Path, count: int) -> None:
    bench = Bench(root / "handed")
    delays = []
    for number in range(count):
        bench.jobs.submit([JobSpec(("/bin/fit",), (JobInput(url(number)),))])
        bench.orders.wait_for(number + 1)
        began = bench.complete(bench.orders.waiting[number])
        bench.none.wait_for(number + 1)
        delays.append(max(bench.none.handed.values()) - began)
    bench.close()
    print(f"from completion to dispatch, {count} jobs one after the other")
    report("handed over", delays)


def latency_to_process(root: Path, count: int) -> None:
    place = Timed(root / "process")
    delays = place.run(count)
    report("process exists", delays)


class Timed:
    """A server with real job processes; notes when each was started."""

    def __init__(self, root: Path) -> None:
        self._started: dict[str, float] = {}
        self._over = threading.Semaphore(0)
        cache = FileCache(root / "cache")
        self._dispatcher = LocalDispatcher(cache, root / "runs", self._emit, grace_seconds=1.0)
        self._bench = Bench(root, self._dispatcher)

    def _emit(self, signal: JobSignal) -> None:
        if isinstance(signal, JobStarted):
            self._started[signal.job] = time.perf_counter()
        elif isinstance(signal, JobEnded):
            self._over.release()
        self._bench.mapper.job_signal(signal)

    def run(self, count: int) -> list[float]:
        delays = []
        for number in range(count):
            order = self._submit(number)
            began = self._bench.complete(order)
            self._over.acquire()
            delays.append(max(self._started.values()) - began)
        self._bench.close()
        self._dispatcher.close()
        return delays

    def _submit(self, number: int) -> FetchOrder:
        address = url(number)
        data = address.encode()[:1]
        digest = sha256(address.encode()).hexdigest()
        self._bench.cache.publish_bytes(address, data, digest)
        self._bench.cache.record(Entry(address, digest, 1, stored_at=0.0, fresh_until=0.0))
        self._bench.jobs.submit([JobSpec(("/bin/true",), (JobInput(address),))])
        self._bench.orders.wait_for(number + 1)
        return self._bench.orders.waiting[number]


def report(what: str, delays: list[float]) -> None:
    cuts = statistics.quantiles(delays, n=100)
    print(
        f"  {what:15} p50 {cuts[49] * 1e3:6.2f} ms   p99 {cuts[98] * 1e3:6.2f} ms   max {max(delays) * 1e3:6.2f} ms"
    )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--pairs", type=int, default=100_000)
    options.add_argument("--latencies", type=int, default=1000)
    options.add_argument(
        "--dir", type=Path, default=None, help="where the databases are made (default: temporary)"
    )
    given = options.parse_args()
    tune_collector()  # as `stager serve` does
    with tempfile.TemporaryDirectory(dir=given.dir) as made:
        root = Path(made)
        for name in ("many", "one"):
            (root / name).mkdir()
        many_inputs(root / "many", given.pairs)
        one_url(root / "one", given.pairs)
        (root / "handed").mkdir()
        latency(root, given.latencies)
        (root / "process").mkdir()
        latency_to_process(root, min(given.latencies, 300))


if __name__ == "__main__":
    main()

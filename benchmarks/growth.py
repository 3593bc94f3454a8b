"""What a server holds in memory after a million distinct files have gone through it: no more than after some.

Everything is the real server's (cache, mapper, database, catalogue) but for the two ends: a file's bytes are
made on the spot instead of being transferred, and a job ends as soon as its inputs are in its directory.

    python benchmarks/growth.py [--keys 1000000] [--inputs 10] [--directory DIR]
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from unittest import mock

from stager.cache.store import FileCache
from stager.farm.threads import ThreadFarm
from stager.mapper.dispatch.prepare import prepare
from stager.model.entries import Entry
from stager.model.events import DispatchOrder, JobEnded, JobRefused, JobSignal, JobStarted
from stager.model.fetches import FetchOrder, FetchResult
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.settings import Settings
from stager.wiring.server import JobServer

JOBS_AT_ONCE = 200
"""Submitted together; their inputs are under way at the same time."""
GOAL_BYTES = 100
"""Per key, from the second quarter to the last: what a dictionary that is never cleared would take at least."""


class InstantPlace:
    """A place for jobs that are over as soon as they can read their inputs."""

    def __init__(self, cache: FileCache, emit: Callable[[JobSignal], None]) -> None:
        self._cache = cache
        self._emit = emit

    def hand_over(self, order: DispatchOrder) -> None:
        """See `JobPlace`."""
        ready = prepare(self._cache, order)
        if isinstance(ready, JobRefused):
            self._emit(ready)
            return
        self._emit(JobStarted(order.job, order.epoch, 0.0))
        self._emit(JobEnded(order.job, order.epoch, 0))

    def holds(self, job: str, epoch: int) -> bool:
        """See `JobPlace`."""
        return bool(job and epoch)

    def stop(self, job: str, epoch: int) -> None:
        """See `JobPlace`."""
        self._emit(JobEnded(job, epoch, None))

    def clean_up(self, job: str, epoch: int) -> None:
        """See `JobPlace`."""
        assert epoch
        self._cache.release(job)

    def tidy(self, open_jobs: Collection[str]) -> None:
        """See `JobPlace`."""

    def close(self) -> None:
        """See `JobPlace`."""


def bring(cache: FileCache, order: FetchOrder, **_: object) -> FetchResult:
    """A fetch that makes up its bytes."""
    request = order.request
    entry = cache.lookup(request.key)
    data = request.url.encode()
    digest = sha256(data).hexdigest()
    path = cache.publish_bytes(request.key, data, digest)
    if entry is None:
        cache.record(Entry(request.key, digest, len(data), stored_at=time.time(), url=request.url))
    return FetchResult(
        request.url, digest, len(data), path, cached=False, received=len(data), fresh_until=None
    )


@contextmanager
def growing_server(root: Path) -> Iterator[JobServer]:
    """A server with both ends cut short."""
    settings = Settings(
        cache_dir=root / "cache",
        state_dir=root / "state",
        fetch_threads=4,
        origin_connections=64,
        keeper_seconds=1.0,
        reconcile_seconds=5.0,
    )

    def farm(
        _settings: Settings, cache: FileCache, emit: object, _hearing: object, made: ExitStack
    ) -> ThreadFarm:
        threads = ThreadFarm(lambda order, **more: bring(cache, order, **more), emit, size=4)  # type: ignore[arg-type]
        made.callback(threads.close)
        return threads

    def place(
        _settings: Settings, cache: FileCache, emit: Callable[[JobSignal], None], *_: object
    ) -> InstantPlace:
        return InstantPlace(cache, emit)

    with (
        mock.patch("stager.wiring.server.build_farm", farm),
        mock.patch("stager.wiring.server.build_job_place", place),
        JobServer(settings) as server,
    ):
        yield server


def put_through(server: JobServer, first: int, count: int, inputs: int) -> None:
    """Jobs with so many inputs each, all of other files; returns when they are over."""
    waiting: list[str] = []
    for job in range(first // inputs, (first + count) // inputs):
        urls = [f"https://origin{number % 7}.example.org/run{job}/{number}.nxs" for number in range(inputs)]
        waiting += server.jobs.submit([JobSpec(("true",), tuple(map(JobInput, urls)))])
        if len(waiting) >= JOBS_AT_ONCE:
            settle(server, waiting)
            waiting = []
    settle(server, waiting)


def settle(server: JobServer, jobs: list[str]) -> None:
    """Wait for these, and leave nothing of them."""
    for job in jobs:
        view = server.jobs.wait(job, 120.0)
        assert view.state is JobState.DONE, view


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--inputs", type=int, default=10, help="per job")
    parser.add_argument("--directory", type=Path, help="default: memory, /dev/shm, if there is one")
    options = parser.parse_args()
    place = options.directory or (Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    seen = []
    with tempfile.TemporaryDirectory(dir=place) as work, growing_server(Path(work)) as server:
        step = options.keys // 8
        for part in range(8):
            began = time.perf_counter()
            put_through(server, part * step, step, options.inputs)
            seen.append(resident())
            print(
                f"{(part + 1) * step:>10,} keys: {seen[-1] / 1e6:6.1f} MB,"
                f" {step / (time.perf_counter() - began):,.0f} keys/s",
                flush=True,
            )
    grown = (seen[7] - seen[3]) / (4 * step)
    met = grown < GOAL_BYTES
    print(
        f"from the half to the end {grown:.1f} bytes per key (goal: below {GOAL_BYTES}): {'met' if met else 'NOT MET'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

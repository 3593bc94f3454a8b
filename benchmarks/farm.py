"""A farm of Celery workers beside threads of the server, and what both cost while nothing happens.

Starts its own nginx (sources in memory), Redis, server and workers. Prints:

- many small files through server, Redis and Celery, and the same files through threads of the server
  (from the first submission until the last file is recorded), aria2c beside them;
- from a completion told by a worker to the hand-over of the job that waited for it, through Redis;
- processor time of an idle server and an idle worker.

    python benchmarks/farm.py [--count 10000] [--size 4096] [--runs 3] [--idle 30]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from preconditions import NoJobs
from small_files import aria2c
from support import Nginx, Redis, memory_directory

from stager.cache.store import FileCache
from stager.client import Client
from stager.clock import SystemClock
from stager.mapper.admission import Admission
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.model.backoff import RetryPolicy
from stager.model.events import DispatchOrder
from stager.model.fetches import FetchResult, Ready
from stager.model.jobs import JobInput, JobSpec
from stager.service.ids import IdMaker
from stager.service.jobs import JobService
from stager.service.watch import Watch
from stager.settings import Settings
from stager.signals.connection import RedisAddress
from stager.signals.outbox import Outbox
from stager.state.store import Store
from stager.wiring.hearing import build_hearing

INPUTS_OF_A_JOB = 100
PATIENCE = 600.0


@contextmanager
def site(root: Path, *, redis: Redis | None, workers: int) -> Iterator[tuple[Client, list[int]]]:
    """A server on `root`, with Celery workers if there is a Redis; a client, and the pids of all processes."""
    environment = os.environ | {
        "STAGER_CACHE_DIR": str(root / "cache"),
        "STAGER_STATE_DIR": str(root / "state"),
        "STAGER_LOG_LEVEL": "warning",
        "STAGER_ORIGIN_CONNECTIONS": "16",
        "STAGER_FETCH_THREADS": "8",
        "STAGER_FARM": "celery" if redis else "threads",
    }
    environment |= {"STAGER_REDIS_URL": redis.url} if redis else {}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with ExitStack() as running:
        stager = [sys.executable, "-m", "stager"]
        server = _start([*stager, "serve", "--port", "0"], environment, running)
        for number in range(workers if redis else 0):
            celery = [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "workers",
                "worker",
                "-Q",
                "fetch",
                "-P",
                "threads",
            ]
            options = ["-n", f"w{number}@bench", "--without-gossip", "--without-mingle", "-c", "4"]
            _start([*celery, *options], environment, running)
        address = root / "state" / "server.json"
        _until(address.exists, "the server is up")
        url = json.loads(address.read_text())["url"]
        client = running.enter_context(Client(url, (root / "state" / "token").read_text().strip()))
        if redis:
            _until(lambda: _listening(redis) >= workers, "the workers are up")
        yield client, [server.pid]


def _start(command: list[str], environment: dict[str, str], running: ExitStack) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end() -> None:
        process.send_signal(signal.SIGTERM)
        process.wait()

    running.callback(end)
    return process


def _listening(redis: Redis) -> int:
    with RedisAddress(redis.url).connect() as client:
        return len(client.keys("stager:worker:*"))


def _until(true: Callable[[], object], what: str) -> None:
    latest = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > latest:
            raise TimeoutError(what)
        time.sleep(0.01)


def _ready(root: Path) -> int:
    with closing(sqlite3.connect(root / "state" / "stager.db")) as database:
        found: int = database.execute("SELECT count(*) FROM fetches WHERE state = 'ready'").fetchone()[0]
        return found


def small_files(urls: list[str], base: Path, redis: Redis | None) -> float:
    """Seconds until all are fetched for jobs that go on waiting for somebody's word."""
    root = Path(tempfile.mkdtemp(dir=base))
    with site(root, redis=redis, workers=2) as (client, _):
        parts = (urls[i : i + INPUTS_OF_A_JOB] for i in range(0, len(urls), INPUTS_OF_A_JOB))
        specs = [JobSpec(("true",), tuple(JobInput(u) for u in part), after=("never",)) for part in parts]
        began = time.perf_counter()
        client.jobs.submit(specs)
        _until(lambda: _ready(root) == len(urls), "all files are there")
        seconds = time.perf_counter() - began
        for job in client.jobs.list(limit=1000):
            client.jobs.cancel(job.id)
    shutil.rmtree(root)
    return seconds


def compare(count: int, size: int, runs: int, memory: Path, nginx: Nginx, redis: Redis) -> None:
    """Print how long many small files take."""
    for number in range(count):
        (nginx.sources / f"f{number:06}").write_bytes(os.urandom(size))
    urls = [f"{nginx.url}/f{number:06}" for number in range(count)]
    ways: dict[str, Callable[[], float]] = {
        "threads": lambda: small_files(urls, memory, None),
        "celery": lambda: small_files(urls, memory, redis),
    }
    if shutil.which("aria2c"):
        ways["aria2c"] = lambda: _timed(urls, memory)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            taken[name].append(way())
    print(f"{count} files of {size} bytes to memory, {runs} runs in turns")
    median = {name: statistics.median(seconds) for name, seconds in taken.items()}
    for name, seconds in median.items():
        print(f"  {name:10} {seconds:7.2f} s ({min(taken[name]):.2f} to {max(taken[name]):.2f})")
    ratio = median["celery"] / median["threads"]
    print(f"  celery takes {ratio:.2f} of threads; goal: at most 1.5: {'met' if ratio <= 1.5 else 'NOT MET'}")


def _timed(urls: list[str], memory: Path) -> float:
    target = Path(tempfile.mkdtemp(dir=memory))
    began = time.perf_counter()
    aria2c(urls, target)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds


class Noted(NoJobs):
    """Notes when each job was handed over, by the clock that all processes share."""

    def hand_over(self, order: DispatchOrder) -> None:
        with self.changed:
            self.handed[order.job] = time.monotonic()
            self.changed.notify_all()


class NoFarm:
    """Stands for `CeleryFarm` where nothing is fetched."""

    outlives = True

    def start(self, *_: object) -> None: ...
    def adopt(self, *_: object) -> None: ...
    def cancel(self, *_: object) -> None: ...
    def holds(self, *_: object) -> bool:
        return True


def latency(root: Path, redis: Redis, jobs: int = 500) -> None:
    """Print how soon a job follows the word of a worker, through Redis."""
    clock = SystemClock()
    ids = IdMaker(clock)
    settings = Settings(
        cache_dir=root / "cache", state_dir=root / "state", farm="celery", redis_url=redis.url
    )
    place, watch = Noted(), Watch()
    with ExitStack() as made:
        store = Store(f"sqlite:///{root / 'state.db'}")
        made.callback(store.close)
        mapper = Mapper(
            lambda: Machine(
                Admission(slots=10**6, per_origin=10**6), RetryPolicy(), job_slots=None, fetch_ids=ids
            ),
            store,
            clock=clock,
            jitter=lambda: 0.0,
        )
        hearing = build_hearing(settings, made)
        made.callback(mapper.stop)
        mapper.start(NoFarm(), place, hearing)
        service = JobService(FileCache(root / "cache"), store, mapper, watch, clock=clock, ids=ids)
        specs = [JobSpec(("true",), (JobInput(f"http://origin.test/{n}"),)) for n in range(jobs)]
        names = service.submit(specs)
        fetches = {job: service.job(job).inputs[0].fetch for job in names}
        outbox = Outbox(RedisAddress(redis.url), "bench")
        told: dict[str, float] = {}
        pause = threading.Event()
        for job in names:
            result = FetchResult("", "a" * 64, 3, Path(), cached=False)
            told[job] = time.monotonic()
            outbox.tell(Ready(fetches[job], 1, result))
            pause.wait(0.01)  # one at a time, as files of some size end
        with place.changed:
            assert place.changed.wait_for(lambda: len(place.handed) == jobs, 60)
        outbox.close(10)
    waits = sorted((place.handed[job] - told[job]) * 1000 for job in names)
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    met = "met" if p50 < 10 and p99 < 50 else "NOT MET"
    print(f"completion to hand-over through Redis: p50 {p50:.1f} ms, p99 {p99:.1f} ms; goal 10 and 50: {met}")


def idle(root: Path, redis: Redis, seconds: float) -> None:
    """Print what processor time an idle farm takes."""
    with site(root, redis=redis, workers=1):
        time.sleep(5)
        children = _children()
        before = {pid: _cpu(pid) for pid in children}
        time.sleep(seconds)
        for pid, used in before.items():
            share = (_cpu(pid) - used) / seconds
            print(f"idle {_name(pid):40} {share * 100:.2f} % of a core")


def _children() -> Collection[int]:
    me = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in me]


def _name(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return " ".join(Path(w).name for w in words if not w.startswith("-"))[:40]


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4096, help="bytes per file")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds to watch an idle farm")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with memory_directory() as memory, Nginx(memory) as nginx:
        with Redis(memory) as redis:
            latency(Path(tempfile.mkdtemp(dir=memory)), redis)
        with Redis(memory) as redis:
            compare(given.count, given.size, given.runs, memory, nginx, redis)
        with Redis(memory) as redis:
            idle(Path(tempfile.mkdtemp(dir=memory)), redis, given.idle)


if __name__ == "__main__":
    main()

"""A farm under fire: kill -9 of workers, server and Redis, again and again, while jobs wait and run.

These take minutes: `make test-farm`.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from stager.client import Client
from stager.errors import ServerUnreachableError
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.signals import keys
from stager.transfer.buffers import BLOCK_BYTES
from tests.support.farm import Farm, until
from tests.support.origin import OVERLAP, SLOW_BLOCK, Origin, content

KILLS = 10
JOBS, URLS, LARGE_URLS = 2000, 500, 20
ABSENT_SECONDS = 60.0
PATIENCE = 600.0
TIMEOUT = pytest.mark.timeout(900)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def check_quiet(farm: Farm) -> None:
    """Nothing is pending, in Redis, in the database and in the cache."""
    with farm.redis.client() as redis:
        until(lambda: not redis.exists(keys.FETCHES), "no order is left", 90)
        until(lambda: not redis.keys(keys.LEASE + "*"), "no lease is left")
        until(lambda: redis.xlen(keys.SIGNALS) == 0, "no signal is left")
        until(lambda: redis.llen("fetch") == 0, "no task is left")
        assert not redis.exists(keys.RESERVED), "space is promised still"
    with closing(sqlite3.connect(farm.root / "state" / "stager.db")) as database:
        states = Counter(dict(database.execute("SELECT state, count(*) FROM fetches GROUP BY state")))
        assert set(states) == {"ready"}, states
        assert database.execute("SELECT count(*) FROM jobs WHERE handed").fetchone() == (0,)
    left = [path for path in (farm.root / "cache" / "partial").rglob("*") if path.is_file()]
    assert not left, left


def check_objects(root: Path) -> None:
    """Every object is what its name says."""
    for path in (root / "cache" / "objects").rglob("*"):
        if path.is_file() and path.suffix != ".shared":
            assert sha256(path.read_bytes()).hexdigest() == path.name


@TIMEOUT
def test_a_transfer_whose_worker_is_killed_ten_times_sends_at_most_a_block_twice_each_time(
    tmp_path: Path, origin: Origin
) -> None:
    data = Random(1).randbytes(56 << 20)
    url = origin.serve("/large.dat", content(data, etag='"1"', pause=0.08))
    with Farm(tmp_path) as farm, farm.server.client() as client:
        (job,) = client.jobs.submit([JobSpec(("/bin/sh", "-c", "sha256sum inputs/*"), (JobInput(url),))])
        for _ in range(KILLS):
            before = client.jobs.show(job).inputs[0].received
            worker = farm.start_worker()
            until_received(client, job, before + (2 << 20))
            worker.kill()
        farm.start_worker()
        assert client.jobs.wait(job, 120).state is JobState.DONE
        seen = origin.seen("/large.dat")
        assert len(seen) == KILLS + 1
        reached = 0
        for request in seen:
            start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            assert start >= reached - BLOCK_BYTES - OVERLAP, "more than a block was sent twice"
            assert start > 0 or not reached
            reached = start + request.sent
        assert origin.sent("/large.dat") - len(data) <= KILLS * (BLOCK_BYTES + SLOW_BLOCK + OVERLAP)
        check_quiet(farm)
    check_objects(tmp_path)


class Fire:
    """What is done to the farm, each thing when enough jobs are over."""

    def __init__(self, farm: Farm, random: Random) -> None:
        self.farm = farm
        self.done: Counter[str] = Counter()
        self._random = random

    def worker(self) -> None:
        """One worker dies, another comes."""
        alive = [worker for worker in self.farm.workers if worker.process.poll() is None]
        self._random.choice(alive).kill()
        self.farm.start_worker(wait=False)
        self.done["worker"] += 1

    def server(self) -> None:
        """The server dies and comes back."""
        self.farm.server.kill()
        self.farm.start_server()
        self.done["server"] += 1

    def redis_emptied(self) -> None:
        """Redis dies and comes back without what it knew."""
        self.farm.redis.kill(empty=True)
        self.farm.redis.start()
        self.done["redis emptied"] += 1

    def redis_absent(self) -> None:
        """There is no Redis for a minute."""
        self.farm.redis.kill()
        time.sleep(ABSENT_SECONDS)  # this is what the test is about
        self.farm.redis.start()
        self.done["redis absent"] += 1


@TIMEOUT
def test_two_thousand_jobs_run_once_each_whatever_is_killed_meanwhile(tmp_path: Path, origin: Origin) -> None:
    random = Random(2)
    sizes = [3 << 20] * LARGE_URLS + [random.randrange(10, 60_000) for _ in range(URLS - LARGE_URLS)]
    digests, urls = {}, []
    for number, size in enumerate(sizes):
        data = random.randbytes(size)
        pause = 0.1 if size > SLOW_BLOCK else 0.0
        urls.append(origin.serve(f"/{number}.dat", content(data, etag=f'"{number}"', pause=pause)))
        digests[f"{number}.dat"] = sha256(data).hexdigest()
    ran = tmp_path / "ran"
    command = ("/bin/sh", "-c", f'cat inputs/* >/dev/null && echo "$STAGER_JOB_ID" >> {ran}')
    specs = [
        JobSpec(command, tuple(JobInput(url) for url in random.sample(urls, random.randint(1, 4))))
        for _ in range(JOBS)
    ]
    for spec, url in zip(specs, urls, strict=False):  # each URL is wanted by somebody
        specs[specs.index(spec)] = JobSpec(command, (JobInput(url),))
    with Farm(tmp_path, STAGER_JOB_SLOTS="6") as farm:
        farm.start_worker()
        farm.start_worker()
        with farm.server.client() as client:
            ids = [
                job for start in range(0, JOBS, 500) for job in client.jobs.submit(specs[start : start + 500])
            ]
        fire = Fire(farm, random)
        acts: list[tuple[float, Callable[[], None]]] = [(0.02 + 0.06 * n, fire.worker) for n in range(10)]
        acts += [(0.05 + 0.1 * n, fire.server) for n in range(6)]
        acts += [(0.12, fire.redis_emptied), (0.33, fire.redis_absent), (0.55, fire.redis_emptied)]
        for part, act in sorted(acts, key=lambda pair: pair[0]):
            until_over(farm, part * JOBS)
            act()
        until(lambda: over(farm) == JOBS, "all jobs are over", PATIENCE)
        with farm.server.client() as client:
            counts = client.site.status()["jobs"]
        assert counts["done"] == JOBS, counts
        assert sorted(ran.read_text().split()) == sorted(ids)
        assert fire.done == {"worker": 10, "server": 6, "redis emptied": 2, "redis absent": 1}
        check_quiet(farm)
        sent_twice = origin.sent() - sum(sizes)
        assert sent_twice <= sum(fire.done.values()) * 8 * (BLOCK_BYTES // 4), sent_twice
    check_objects(tmp_path)
    kept = {path.name for path in (tmp_path / "cache" / "objects").rglob("*") if path.is_file()}
    assert kept >= set(digests.values())


def until_received(client: Client, job: str, size: int) -> None:
    until(lambda: client.jobs.show(job).inputs[0].received >= size, f"{size} bytes are there", 90)


def until_over(farm: Farm, count: float) -> None:
    until(lambda: over(farm) >= count, f"{count:.0f} of the jobs are over", PATIENCE)


def over(farm: Farm) -> int:
    """Jobs that are over; 0 while nobody answers."""
    try:
        with farm.server.client() as client:
            return _over(client)
    except (ServerUnreachableError, FileNotFoundError):
        return 0


def _over(client: Client) -> int:
    counts = client.site.status()["jobs"]
    return int(counts["done"] + counts["failed"] + counts["cancelled"])

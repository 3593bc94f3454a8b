"""From submission to the queue of the compute nodes, with inputs that are staged already.

A server with ``dispatch=celery`` in this process, a real Redis, no worker: the tasks stay in the queue and are
counted there. Each job has one input, which is in the cache.

    python benchmarks/dispatch.py [--jobs 10000] [--runs 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from support import Redis, memory_directory

from stager.model.entries import Entry
from stager.model.fetches import FetchRequest
from stager.model.jobs import JobInput, JobSpec
from stager.server.collector import tune_collector
from stager.service.jobs import MAX_JOBS_PER_CALL
from stager.settings import Settings
from stager.signals.connection import RedisAddress
from stager.wiring.server import JobServer

GOAL = 2000
PATIENCE = 120.0
DATA = b"0.01 1.0 0.1\n"


def measure(root: Path, redis: Redis, jobs: int) -> float:
    """Jobs per second."""
    settings = Settings(
        cache_dir=root / "cache", state_dir=root / "state", dispatch="celery", redis_url=redis.url
    )
    with JobServer(settings) as server, RedisAddress(redis.url).connect() as client:
        request = FetchRequest("http://origin.test/run.nxs")
        digest = sha256(DATA).hexdigest()
        server.cache.publish_bytes(request.key, DATA, digest)
        later = time.time() + 3600
        server.cache.record(
            Entry(request.key, digest, len(DATA), stored_at=time.time(), fresh_until=later, url=request.url)
        )
        spec = JobSpec(("true",), (JobInput(request.url),))
        began = time.perf_counter()
        for start in range(0, jobs, MAX_JOBS_PER_CALL):
            server.jobs.submit([spec] * min(MAX_JOBS_PER_CALL, jobs - start))
        while client.llen("work") < jobs:
            if time.perf_counter() - began > PATIENCE:
                raise TimeoutError(f"only {client.llen('work')} of {jobs} jobs are in the queue")
            time.sleep(0.005)
        return jobs / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    tune_collector()
    rates = []
    with memory_directory() as memory:
        for _ in range(given.runs):
            with Redis(memory) as redis:
                rates.append(measure(Path(tempfile.mkdtemp(dir=memory)), redis, given.jobs))
    rate = statistics.median(rates)
    met = "met" if rate >= GOAL else "NOT MET"
    print(
        f"{given.jobs} jobs from submission to the queue: {rate:,.0f} jobs/s ({min(rates):,.0f} to {max(rates):,.0f})"
    )
    print(f"  goal: at least {GOAL}: {met}")


if __name__ == "__main__":
    main()

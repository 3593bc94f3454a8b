"""What a server holds in memory while a million job-input pairs wait, and how long a restart takes then.

Everything is real but the transfers: none ever ends. Each case runs in a process of its own.

    python benchmarks/memory.py [--pairs 1000000] [--inputs 10]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

from preconditions import Bench
from support import memory_directory

from stager.model.jobs import JobInput, JobSpec
from stager.server.collector import tune_collector
from stager.service.jobs import MAX_JOBS_PER_CALL

GOAL_BYTES = 10**9


def rss() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def submitted(root: Path, pairs: int, inputs: int, shared_by: int) -> None:
    """Submit, and say what it took."""
    tune_collector()
    bench = Bench(root, seats=64)
    before, began = rss(), time.perf_counter()
    files = pairs // shared_by
    jobs = pairs // inputs
    for start in range(0, jobs, MAX_JOBS_PER_CALL):
        specs = [
            JobSpec(
                ("true",),
                tuple(
                    JobInput(f"https://data.example.org/instrument/run{(job * inputs + n) % files}.nxs")
                    for n in range(inputs)
                ),
            )
            for job in range(start, min(start + MAX_JOBS_PER_CALL, jobs))
        ]
        bench.jobs.submit(specs)
    grown = rss() - before
    print(
        f"{pairs:,} pairs, each file for {shared_by} jobs: {rss() / 1e6:,.0f} MB"
        f" ({grown / pairs:.0f} bytes per pair), submitted in {time.perf_counter() - began:.0f} s",
        flush=True,
    )
    print(
        f"  goal: below {GOAL_BYTES / 1e6:,.0f} MB: {'met' if rss() < GOAL_BYTES else 'NOT MET'}", flush=True
    )
    bench.close()


def restarted(root: Path) -> None:
    """Load all of it again, and say what that took."""
    tune_collector()
    began = time.perf_counter()
    bench = Bench(root, seats=64)
    bench.mapper.inspect(lambda _: None).result(600)
    print(
        f"  after a restart: {rss() / 1e6:,.0f} MB, ready in {time.perf_counter() - began:.1f} s", flush=True
    )
    bench.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--inputs", type=int, default=10, help="of a job")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with memory_directory() as memory:
        for shared_by in (10, 1):
            root = Path(tempfile.mkdtemp(dir=memory))
            for work, arguments in (
                (submitted, (root, given.pairs, given.inputs, shared_by)),
                (restarted, (root,)),
            ):
                process = context.Process(target=work, args=arguments)
                process.start()
                process.join()


if __name__ == "__main__":
    main()

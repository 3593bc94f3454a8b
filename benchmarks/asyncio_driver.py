"""The asyncio driver beside the threads: the same files through a farm of each.

Starts its own nginx (sources in memory). Each run is a process of its own with a cache in memory, with as
many connections at once; timed from the first order until the last file is published and recorded.

    python benchmarks/asyncio_driver.py [--runs 3] [--connections 8] [--only NAME]...
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from contest import make_file
from support import Nginx, environment, memory_directory

from stager.cache.store import FileCache
from stager.model.fetches import Failed, FetchOrder, FetchRequest, Ready, Signal
from stager.settings import Settings
from stager.wiring.farms import build_farm

GOAL = 1.2
"""The asyncio driver takes at most this part of the threads' time."""
DRIVERS = ("threads", "aio")
SETS = {"1 x 1 GiB": (1, 1 << 30), "2000 x 4 KiB": (2000, 4 << 10), "64 x 8 MiB": (64, 8 << 20)}


def alone(driver: str, urls: list[str], cache_dir: Path, connections: int) -> dict[str, float]:
    """Fetch all through that farm, which is given the next when one ends: seconds that passed and that it computed, peak MiB."""
    settings = Settings(
        cache_dir=cache_dir, farm=driver, fetch_threads=connections, origin_connections=connections
    )
    orders = (FetchOrder(str(number), 1, FetchRequest(url)) for number, url in enumerate(urls))
    over, failed, lock, left = threading.Event(), [], threading.Lock(), len(urls)

    def hear(signal: Signal) -> None:
        nonlocal left
        if isinstance(signal, Failed):
            failed.append(str(signal.error))
            over.set()
        elif isinstance(signal, Ready):
            with lock:
                left -= 1
                order = next(orders, None)
            if order is not None:
                farm.start(order)
            elif not left:
                over.set()

    with ExitStack() as made:
        farm = build_farm(settings, FileCache(cache_dir), hear, None, made)
        before = resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        with lock:
            first = list(islice(orders, connections))
        for order in first:
            farm.start(order)
        over.wait()
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    if failed:
        raise SystemExit(failed[0])
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "computed": computed, "mib": after.ru_maxrss / 1024}


def _run(driver: str, listing: Path, memory: Path, connections: int) -> dict[str, float]:
    target = Path(tempfile.mkdtemp(dir=memory, prefix="bench-"))
    command = [sys.executable, __file__, "--alone", driver, str(listing), str(target)]
    try:
        said = subprocess.run(
            [*command, "--connections", str(connections)],
            check=True,
            stdout=subprocess.PIPE,
            env=environment(),
        )
    finally:
        shutil.rmtree(target)
    taken: dict[str, float] = json.loads(said.stdout)
    return taken


def compare(name: str, given: argparse.Namespace, memory: Path, nginx: Nginx) -> None:
    """Print what a set of files takes."""
    count, size = SETS[name]
    for number in range(count):
        make_file(nginx.sources / f"f{number:06}", size)
    listing = memory / "urls"
    listing.write_text("\n".join(f"{nginx.url}/f{number:06}" for number in range(count)))
    taken: dict[str, list[dict[str, float]]] = {driver: [] for driver in DRIVERS}
    for _ in range(given.runs):
        for driver in DRIVERS:
            taken[driver].append(_run(driver, listing, memory, given.connections))
    for file in nginx.sources.iterdir():
        file.unlink()
    print(f"\n{name} to memory, {given.connections} connections, {given.runs} runs in turns")
    median = {driver: statistics.median(run["seconds"] for run in runs) for driver, runs in taken.items()}
    for driver, runs in taken.items():
        seconds = [run["seconds"] for run in runs]
        computed = statistics.median(run["computed"] for run in runs)
        print(
            f"  {driver:8} {median[driver]:7.2f} s  ({min(seconds):.2f} to {max(seconds):.2f}),"
            f" processor {computed:6.2f} s, {max(run['mib'] for run in runs):4.0f} MiB"
        )
    ratio = median["aio"] / median["threads"]
    print(
        f"  aio takes {ratio:.2f} of threads; goal: at most {GOAL}: {'met' if ratio <= GOAL else 'NOT MET'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--only", action="append", default=[], choices=SETS)
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)  # driver, list of URLs, cache
    given = parser.parse_args()
    if given.alone:
        driver, listing, cache = given.alone
        print(json.dumps(alone(driver, Path(listing).read_text().split(), Path(cache), given.connections)))
        return
    with memory_directory() as memory, Nginx(memory) as nginx:
        for name in given.only or SETS:
            compare(name, given, memory, nginx)


if __name__ == "__main__":
    main()

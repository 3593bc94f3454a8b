"""Many small files from a web server on loopback: ours beside aria2c, requests, curl and pooch.

Starts its own nginx (sources in memory), runs each contender in turns, and prints medians and
ratios. Ours verifies, publishes and records each file; aria2c and curl only write them.

    python benchmarks/small_files.py [--count 10000] [--size 4096] [--dir DIR]... [--runs 3] [--without NAME]...
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from support import Nginx, environment, memory_directory

TIMES = ("aria2c", 0.7), ("requests", 0.3)
"""Goals: ours takes at most this part of a peer's time."""


def ours(urls: list[str], target: Path) -> None:
    _run([sys.executable, "-m", "stager", "fetch", "--cache", str(target), *urls])


def aria2c(urls: list[str], target: Path) -> None:
    _listed(urls, target, "aria2c", "-q", "-j16", "--auto-file-renaming=false", "-d", str(target), "-i")


def curl(urls: list[str], target: Path) -> None:
    options = "\n".join(f'url = "{url}"\nremote-name' for url in urls)
    config = target.with_suffix(".curl")
    config.write_text(options)
    _run(["curl", "-s", "--parallel", "--parallel-max", "16", "--output-dir", str(target), "-K", str(config)])
    config.unlink()


def requests(urls: list[str], target: Path) -> None:
    _script(urls, target, _REQUESTS)


def pooch(urls: list[str], target: Path) -> None:
    _script(urls, target, _POOCH)


_REQUESTS = """
import sys, threading, requests
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
target, urls = Path(sys.argv[1]), Path(sys.argv[2]).read_text().split()
local = threading.local()
def fetch(url):
    session = getattr(local, "session", None)
    if session is None:
        session = local.session = requests.Session()
    answer = session.get(url)
    answer.raise_for_status()
    (target / url.rpartition("/")[2]).write_bytes(answer.content)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(fetch, urls))
"""

_POOCH = """
import logging, sys, pooch
from pathlib import Path
target, urls = Path(sys.argv[1]), Path(sys.argv[2]).read_text().split()
pooch.get_logger().setLevel(logging.ERROR)
for url in urls:
    pooch.retrieve(url, known_hash=None, path=target)
"""

CONTENDERS: dict[str, Callable[[list[str], Path], None]] = {
    "stager": ours,
    "aria2c": aria2c,
    "curl": curl,
    "requests": requests,
    "pooch": pooch,
}


def _listed(urls: list[str], target: Path, *command: str) -> None:
    listing = target.with_suffix(".urls")
    listing.write_text("\n".join(urls))
    _run([*command, str(listing)])
    listing.unlink()


def _script(urls: list[str], target: Path, script: str) -> None:
    _listed(urls, target, sys.executable, "-c", script, str(target))


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())


def _measure(
    contender: Callable[[list[str], Path], None], urls: list[str], base: Path
) -> tuple[float, float]:
    """Seconds that passed, and that it computed."""
    target = Path(tempfile.mkdtemp(dir=base, prefix="bench-"))
    os.sync()  # what the one before left to be written is not this one's work
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    contender(urls, target)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    files = sum(len(names) for _, _, names in os.walk(target))
    assert files >= len(urls), f"{files} files for {len(urls)} URLs"
    return seconds, computed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4096, help="bytes per file")
    parser.add_argument(
        "--dir", action="append", type=Path, help="where to write (memory and a disk by default)"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], choices=CONTENDERS)
    given = parser.parse_args()
    contenders = {
        n: c
        for n, c in CONTENDERS.items()
        if n not in given.without and (n not in ("aria2c", "curl") or shutil.which(n))
    }
    with memory_directory() as memory, Nginx(memory) as nginx:
        for number in range(given.count):
            (nginx.sources / f"f{number:06}").write_bytes(os.urandom(given.size))
        urls = [f"{nginx.url}/f{number:06}" for number in range(given.count)]
        for directory in given.dir or [memory, Path(tempfile.gettempdir())]:
            # Removed at the very end: for half a minute ext4 looks at each deleted inode before it makes one.
            with tempfile.TemporaryDirectory(dir=directory, prefix="stager-bench-") as base:
                _compare(contenders, urls, Path(base), given.runs, given.size)


def _compare(
    contenders: dict[str, Callable[[list[str], Path], None]],
    urls: list[str],
    base: Path,
    runs: int,
    size: int,
) -> None:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(base)], check=True, capture_output=True, text=True
    ).stdout.strip()
    print(f"\n{len(urls)} files of {size} bytes to {kind}, {runs} runs in turns")
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, contender in contenders.items():
            taken[name].append(_measure(contender, urls, base))
    median = {name: statistics.median(seconds for seconds, _ in runs_) for name, runs_ in taken.items()}
    for name, runs_ in taken.items():
        computed = statistics.median(seconds for _, seconds in runs_)
        ratio = f"  ours takes {median['stager'] / median[name]:.2f} of it" if name != "stager" else ""
        print(
            f"  {name:10} {median[name]:7.2f} s ({min(runs_)[0]:.2f} to {max(runs_)[0]:.2f}), computing {computed:6.2f} s{ratio}"
        )
    for name, goal in TIMES:
        if name in median:
            met = "met" if median["stager"] <= goal * median[name] else "NOT MET"
            print(f"  goal: at most {goal} of {name}: {met}")


if __name__ == "__main__":
    main()

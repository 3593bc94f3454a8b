"""Verification beside ``openssl dgst -sha256`` with the same parallelism, on the same objects.

Cold: the objects are not in memory before (they are dropped from it as far as the kernel lets us; files in
/dev/shm always are in memory). Warm: they are.

    python benchmarks/verify.py [--bytes 2000000000] [--size 16000000] [--threads N] [--directory DIR] [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stager.cache.store import FileCache

GOAL = 1.0
"""Our rate, as a part of openssl's."""


def fill(root: Path, total: int, size: int) -> list[Path]:
    """A cache with so many bytes in objects of that size."""
    cache = FileCache(root)
    block = os.urandom(size)
    for number in range(max(1, total // size)):
        cache.put(f"key{number}", number.to_bytes(8, "big") + block[8:])
    return [path for path in (root / "objects").rglob("*") if path.is_file()]


def drop(objects: list[Path]) -> None:
    """Out of memory with them."""
    os.sync()
    for path in objects:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def warm(objects: list[Path]) -> None:
    """Into memory with them."""
    for path in objects:
        path.read_bytes()


def ours(root: Path, threads: int) -> float:
    """Seconds by its own report, orphans included; a process of Python takes its time to start besides."""
    environment = os.environ | {
        "STAGER_STATE_DIR": str(root.with_name("state")),
        "STAGER_CACHE_DIR": str(root),
    }
    command = [
        sys.executable,
        "-m",
        "stager",
        "cache",
        "verify",
        "--anew",
        "--json",
        "--threads",
        str(threads),
    ]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return float(json.loads(done.stdout)["seconds"])


def openssl(root: Path, threads: int) -> float:
    """Seconds, its processes' starts included."""
    listed = subprocess.run(
        ["find", root / "objects", "-type", "f", "-print0"], check=True, capture_output=True
    )
    count = listed.stdout.count(b"\0")
    each = max(1, min(1000, -(-count // (4 * threads))))
    began = time.perf_counter()
    subprocess.run(
        ["xargs", "-0", "-P", str(threads), "-n", str(each), "openssl", "dgst", "-sha256"],
        input=listed.stdout,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bytes", type=int, default=2_000_000_000)
    parser.add_argument("--size", type=int, default=16_000_000, help="of an object")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--directory", type=Path, default=None, help="where to work (default: the usual one)")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("openssl") is None:
        print("openssl is not installed")
        return 2
    met = True
    with tempfile.TemporaryDirectory(dir=options.directory) as work:
        root = Path(work) / "cache"
        objects = fill(root, options.bytes, options.size)
        whole = sum(path.stat().st_size for path in objects)
        print(
            f"{len(objects)} objects of {options.size:,} bytes, {options.threads} at once, median of {options.runs}"
        )
        for name, prepare in (("cold", drop), ("warm", warm)):
            times: dict[str, list[float]] = {"stager": [], "openssl": []}
            for _ in range(options.runs):
                for who, act in (("stager", ours), ("openssl", openssl)):
                    prepare(objects)
                    times[who].append(act(root, options.threads))
            ours_, theirs = (statistics.median(times[who]) for who in ("stager", "openssl"))
            ratio = theirs / ours_
            met &= ratio >= GOAL
            print(
                f"{name}: stager {whole / ours_ / 1e6:7.0f} MB/s, openssl {whole / theirs / 1e6:7.0f} MB/s:"
                f" {ratio:.2f} (goal {GOAL:.2f})"
            )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

"""One large file from a web server on loopback, verified: ours beside curl + openssl, pooch and aria2c.

Starts its own nginx (source in memory), runs each contender in turns, and prints medians, ratios and
peak memory. Ours also publishes and records the file, and has it on stable storage when it returns;
the peers leave that to the system.

    python benchmarks/large_file.py [--size BYTES] [--dir DIR]... [--runs 3] [--without NAME]...
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from support import Nginx, memory_directory

GOALS = ("curl", 0.55), ("pooch", 0.15)
"""Ours takes at most this part of a peer's time."""
MEMORY_MIB = 64
"""Ours takes at most this much memory."""
BLOCK = 1 << 20
"""Bytes; small, because a child starts with the peak memory of its parent."""

Commands = list[list[str]]


@dataclass(frozen=True)
class Source:
    """What is fetched, and where to."""

    url: str
    sha256: str
    target: Path


def ours(source: Source) -> Commands:
    return [
        [
            sys.executable,
            "-m",
            "stager",
            "fetch",
            f"--cache={source.target / 'cache'}",
            f"--sha256={source.sha256}",
            source.url,
        ]
    ]


def curl(source: Source) -> Commands:
    file = str(source.target / "file")
    return [["curl", "-sSf", "-o", file, source.url], ["openssl", "dgst", "-sha256", file]]


def aria2c(source: Source) -> Commands:
    options = [f"--checksum=sha-256={source.sha256}", "-d", str(source.target), "-o", "file"]
    return [["aria2c", "-q", *options, source.url]]


def wget(source: Source) -> Commands:
    file = str(source.target / "file")
    return [["wget", "-q", "-O", file, source.url], ["openssl", "dgst", "-sha256", file]]


def pooch(source: Source) -> Commands:
    return [[sys.executable, "-c", _POOCH, source.url, source.sha256, str(source.target)]]


_POOCH = """
import logging, sys, pooch
pooch.get_logger().setLevel(logging.ERROR)
pooch.retrieve(sys.argv[1], known_hash="sha256:" + sys.argv[2], path=sys.argv[3])
"""

CONTENDERS: dict[str, Callable[[Source], Commands]] = {
    "stager": ours,
    "curl": curl,
    "aria2c": aria2c,
    "wget": wget,
    "pooch": pooch,
}


@dataclass
class Runs:
    """What a contender took."""

    seconds: list[float]
    cpu: list[float]
    mib: float = 0.0

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4 << 30, help="bytes")
    parser.add_argument(
        "--dir", action="append", type=Path, help="where to write (memory and a disk by default)"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], choices=CONTENDERS)
    given = parser.parse_args()
    contenders = {
        name: contender
        for name, contender in CONTENDERS.items()
        if name not in given.without and (name in ("stager", "pooch") or shutil.which(name))
    }
    with memory_directory() as memory, Nginx(memory) as nginx:
        digest = _make(nginx.sources / "file", given.size)
        for base in given.dir or [memory, Path(tempfile.gettempdir())]:
            _compare(contenders, f"{nginx.url}/file", digest, base, given)


def _make(path: Path, size: int) -> str:
    """A file without repetition; its digest."""
    block = os.urandom(min(BLOCK, size))
    digest = sha256()
    with path.open("wb") as file:
        for number in range(0, size, BLOCK):
            piece = (number.to_bytes(8, "big") + block[8:])[: size - number]
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _compare(
    contenders: dict[str, Callable[[Source], Commands]],
    url: str,
    digest: str,
    base: Path,
    given: argparse.Namespace,
) -> None:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(base)], check=True, capture_output=True, text=True
    ).stdout.strip()
    print(f"\n{given.size / 2**30:g} GiB to {kind}, {given.runs} runs in turns")
    taken = {name: Runs([], []) for name in contenders}
    for _ in range(given.runs):
        for name, contender in contenders.items():
            _measure(taken[name], contender, url, digest, base)
    ours = taken.get("stager")
    for name, runs in taken.items():
        ratio = "" if ours is None or runs is ours else f"  ours takes {ours.median / runs.median:.2f} of it"
        print(
            f"  {name:8} {runs.median:7.2f} s  ({min(runs.seconds):.2f} to {max(runs.seconds):.2f}),"
            f" processor {statistics.median(runs.cpu):6.2f} s, {runs.mib:4.0f} MiB{ratio}"
        )
    if ours is None:
        return
    for name, goal in GOALS:
        if name in taken:
            met = "met" if ours.median <= goal * taken[name].median else "NOT MET"
            print(f"  goal: at most {goal} of {name}: {met}")
    print(f"  goal: below {MEMORY_MIB} MiB: {'met' if ours.mib < MEMORY_MIB else 'NOT MET'}")


def _measure(runs: Runs, contender: Callable[[Source], Commands], url: str, digest: str, base: Path) -> None:
    target = Path(tempfile.mkdtemp(dir=base, prefix="bench-"))
    os.sync()  # what the one before left to be written is not this one's work
    try:
        began = time.perf_counter()
        cpu = 0.0
        for command in contender(Source(url, digest, target)):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"{command} ended with {process.returncode}")
            cpu += usage.ru_utime + usage.ru_stime
            runs.mib = max(runs.mib, usage.ru_maxrss / 1024)
        runs.seconds.append(time.perf_counter() - began)
        runs.cpu.append(cpu)
    finally:
        shutil.rmtree(target)


if __name__ == "__main__":
    main()

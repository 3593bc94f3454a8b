"""Programs that fetch one file, each in turns: what they took, and whether a goal is met."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from support import environment

BLOCK = 1 << 20
"""Bytes; small, because a child starts with the peak memory of its parent."""

Commands = list[list[str]]


@dataclass(frozen=True)
class Source:
    """What is fetched, and where to."""

    url: str
    sha256: str
    target: Path


Contender = Callable[[Source], Commands]
"""The commands that fetch and verify it."""


def ours(source: Source) -> Commands:
    command = [sys.executable, "-m", "stager", "fetch", f"--cache={source.target / 'cache'}"]
    return [[*command, f"--sha256={source.sha256}", source.url]]


def curl(source: Source, *options: str) -> Commands:
    file = str(source.target / "file")
    return [["curl", "-sSf", *options, "-o", file, source.url], ["openssl", "dgst", "-sha256", file]]


def aria2c(source: Source, *options: str) -> Commands:
    checked = [f"--checksum=sha-256={source.sha256}", "-d", str(source.target), "-o", "file"]
    return [["aria2c", "-q", *options, *checked, source.url]]


@dataclass
class Runs:
    """What a contender took."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    mib: float = 0.0

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def make_file(path: Path, size: int) -> str:
    """A file without repetition; its digest."""
    block = os.urandom(min(BLOCK, size))
    digest = sha256()
    with path.open("wb") as file:
        for number in range(0, size, BLOCK):
            piece = (number.to_bytes(8, "big") + block[8:])[: size - number]
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def installed(contenders: Mapping[str, Contender], without: list[str]) -> dict[str, Contender]:
    """Those that are here and not left out; what is no command is a Python package."""
    ours_too = {"stager", "pooch"}
    return {
        name: contender
        for name, contender in contenders.items()
        if name not in without and (name in ours_too or shutil.which(name))
    }


def in_turns(
    contenders: Mapping[str, Contender], url: str, digest: str, base: Path, runs: int
) -> dict[str, Runs]:
    """Run each so often, each time into a new directory in `base`."""
    taken = {name: Runs() for name in contenders}
    for _ in range(runs):
        for name, contender in contenders.items():
            _measure(taken[name], contender, url, digest, base)
    return taken


def _measure(runs: Runs, contender: Contender, url: str, digest: str, base: Path) -> None:
    target = Path(tempfile.mkdtemp(dir=base, prefix="bench-"))
    os.sync()  # what the one before left to be written is not this one's work
    try:
        began = time.perf_counter()
        cpu = 0.0
        for command in contender(Source(url, digest, target)):
            cpu += _run(command, runs)
        runs.seconds.append(time.perf_counter() - began)
        runs.cpu.append(cpu)
    finally:
        shutil.rmtree(target)


def _run(command: list[str], runs: Runs) -> float:
    """Run it to its end; seconds that it computed."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment())
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    runs.mib = max(runs.mib, usage.ru_maxrss / 1024)
    return usage.ru_utime + usage.ru_stime


def show(taken: Mapping[str, Runs]) -> None:
    """Print medians, extremes, and ours as a part of each other."""
    ours = taken.get("stager")
    for name, runs in taken.items():
        ratio = "" if ours is None or runs is ours else f"  ours takes {ours.median / runs.median:.2f} of it"
        print(
            f"  {name:8} {runs.median:7.2f} s  ({min(runs.seconds):.2f} to {max(runs.seconds):.2f}),"
            f" processor {statistics.median(runs.cpu):6.2f} s, {runs.mib:4.0f} MiB{ratio}"
        )


def judge(taken: Mapping[str, Runs], name: str, goal: float) -> None:
    """Print whether ours takes at most this part of a peer's time."""
    if "stager" in taken and name in taken:
        met = "met" if taken["stager"].median <= goal * taken[name].median else "NOT MET"
        print(f"  goal: at most {goal:g} of {name}: {met}")


def kind_of(directory: Path) -> str:
    """Of file system that is there."""
    command = ["stat", "-f", "-c", "%T", str(directory)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

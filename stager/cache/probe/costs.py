"""What the steps of publishing a file cost: each done some times, the median counts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

from stager.cache.probe.report import Finding, Verdict

TIMES = 30
LONGEST_SECONDS = 3.0
"""For one kind of step: a slow file system is judged by fewer of them."""
BLOCK = bytes(4096)
SLOW_WRITE_MS = 25.0
"""Disks that turn need 5 to 20, NFS over a good network 1 to 3; beyond it small files wait for the file system."""
SLOW_NAME_MS = 10.0
"""A change of a name: 0.3 to 0.7 by NFS over a good network, less on a local disk."""
SLOW_RATE = 200.0
"""Files made, looked at and removed per second; below it a job with thousands of inputs waits for names."""
RATE_SECONDS = 0.5


def durable_write(work: str, times: int = TIMES) -> Finding:
    """Milliseconds from creating a file of 4 KiB to closing it, synced; the median."""

    def write(number: int) -> None:
        fd = os.open(f"{work}/w{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(fd, BLOCK)
            os.fsync(fd)
        finally:
            os.close(fd)

    why = "each small file costs so much; more transfers at once (fetch_threads) hide it"
    return _judged("create, write, fsync, close", _milliseconds(write, times), SLOW_WRITE_MS, why)


def rename(work: str, times: int = TIMES) -> Finding:
    """Milliseconds of a rename within a directory; the median."""
    _make(work, "n", times)
    found = _milliseconds(lambda n: os.rename(f"{work}/n{n}", f"{work}/m{n}"), times)
    return _judged("rename", found, SLOW_NAME_MS, "each entry is put in place by a rename")


def unlink(work: str, times: int = TIMES) -> Finding:
    """Milliseconds of an unlink; the median."""
    _make(work, "u", times)
    found = _milliseconds(lambda n: os.unlink(f"{work}/u{n}"), times)
    return _judged("unlink", found, SLOW_NAME_MS, "making room takes so much per file")


def metadata_rate(work: str) -> Finding:
    """Files per second that one process makes, looks at and removes."""
    begun = time.monotonic()
    count = 0
    while (spent := time.monotonic() - begun) < RATE_SECONDS:
        path = f"{work}/x{count}"
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.stat(path)
        os.unlink(path)
        count += 1
    rate = round(count / spent, 1)
    text = f"{rate:,.0f} files per second made, looked at, removed"
    if rate < SLOW_RATE:
        why = "jobs with thousands of inputs, and evictions, wait for names"
        return Finding("metadata rate", Verdict.SLOW, text, why, rate)
    return Finding("metadata rate", Verdict.OK, text, value=rate)


def _make(work: str, prefix: str, times: int) -> None:
    for number in range(times):
        os.close(os.open(f"{work}/{prefix}{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _milliseconds(action: Callable[[int], None], times: int) -> float:
    begun = time.monotonic()
    taken = []
    for number in range(times):
        before = time.perf_counter()
        action(number)
        taken.append(time.perf_counter() - before)
        if time.monotonic() - begun > LONGEST_SECONDS:
            break
    return round(median(taken) * 1000, 3)


def _judged(name: str, milliseconds: float, limit: float, why: str) -> Finding:
    text = f"{milliseconds:.2f} ms"
    if milliseconds > limit:
        return Finding(name, Verdict.SLOW, f"{text}, more than {limit:.0f}", why, milliseconds)
    return Finding(name, Verdict.OK, text, value=milliseconds)

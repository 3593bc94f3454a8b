"""One of several processes that try the same at once; started by `races`, it needs nothing of this package.

    python contestant.py JSON

It says ``ready``, waits for a line on its standard input (none: its starter is gone), does what JSON says, and
prints what came of it as JSON.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

BLOCK = 65_536
"""Bytes of a file that is replaced while others read it: more than one network packet."""

LAST = 255
"""Byte of which the last version of that file is made."""


def create(work: str, _me: str, count: int) -> dict[str, Any]:
    """Make ``c<n>`` with O_EXCL."""

    def attempt(number: int) -> None:
        os.close(os.open(f"{work}/c{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    return _won(attempt, count)


def link(work: str, me: str, count: int) -> dict[str, Any]:
    """Link a file of one's own to ``l<n>``."""
    own = f"{work}/own-{me}"
    os.close(os.open(own, os.O_CREAT | os.O_WRONLY, 0o600))
    return _won(lambda number: os.link(own, f"{work}/l{number}"), count)


def rename(work: str, me: str, count: int) -> dict[str, Any]:
    """Claim ``r<n>`` by renaming it to a name of one's own."""
    return _won(lambda number: os.rename(f"{work}/r{number}", f"{work}/r{number}.{me}"), count)


def replace(work: str, me: str, count: int) -> dict[str, Any]:
    """Put ``count`` versions of the file ``t`` in place, one after the other; then the last one."""
    for number in [*range(count), LAST]:
        with open(f"{work}/t.{me}", "wb") as file:
            file.write(bytes([number if number == LAST else number % LAST]) * BLOCK)
        os.rename(f"{work}/t.{me}", f"{work}/t")
    return {"replaced": count}


def read(work: str, _me: str, count: int) -> dict[str, Any]:
    """Read ``t`` until its last version is there, or for so many seconds; how often it was no whole version."""
    end = time.monotonic() + count
    found = {"reads": 0, "torn": 0, "missing": 0, "stale": 0}
    while time.monotonic() < end:
        try:
            with open(f"{work}/t", "rb") as file:
                data = file.read()
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESTALE, errno.EREMOTEIO}:
                raise
            found["missing" if error.errno == errno.ENOENT else "stale"] += 1
            continue
        whole = len(data) == BLOCK and data.count(data[0]) == BLOCK
        found["reads"] += 1
        found["torn"] += not whole
        if whole and data[0] == LAST:
            break
    return found


def _won(attempt: Callable[[int], None], count: int) -> dict[str, Any]:
    won = []
    for number in range(count):
        try:
            attempt(number)
        except (FileExistsError, FileNotFoundError):
            continue
        won.append(number)
    return {"won": won}


ACTIONS: dict[str, Callable[[str, str, int], dict[str, Any]]] = {
    "create": create,
    "link": link,
    "rename": rename,
    "replace": replace,
    "read": read,
}


def main(order: str) -> None:
    """Do what `order` says: ``action``, ``work``, ``me``, ``count``."""
    task = json.loads(order)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if not sys.stdin.readline():
        return
    try:
        done = ACTIONS[task["action"]](task["work"], task["me"], task["count"])
    except OSError as error:
        done = {"errno": error.errno, "error": error.strerror}
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

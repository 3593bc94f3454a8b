"""Who owns an unfinished file, and whether it still lives: the name says it.

An owner is ``<host>-<place>-<pid>-<start>-<number>``. The *place* is one kernel and one pid namespace, so
inside a place a pid can be asked about; together with the process's start time it never means another
process. Of an owner in another place nothing is known.
"""

from __future__ import annotations

import os
import re
from functools import cache
from hashlib import sha256
from itertools import count

_numbers = count()
_mine: set[str] = set()
"""Owners of files that this process has open now."""


@cache
def here() -> str:
    """``<host>-<place>`` of this process."""
    host = re.sub(r"[^A-Za-z0-9]", "_", os.uname().nodename)[:32]
    return f"{host}-{sha256(_place().encode()).hexdigest()[:8]}"


def _place() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read() + os.readlink("/proc/self/ns/pid")
    except OSError:  # no /proc: the host's name has to do
        return ""


def _start(pid: int) -> str:
    """When that process started, in clock ticks since boot; empty when unknown, ``over`` when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    if fields[0] in {b"Z", b"X"}:  # nobody waited for it: in a container that may stay so for ever
        return "over"
    return fields[19].decode("ascii")


@cache
def _me(pid: int) -> str:
    return f"{here()}-{pid}-{_start(pid)}"


def new_owner() -> str:
    """A name that nobody else has; it lives until `retire`."""
    owner = f"{_me(os.getpid())}-{next(_numbers):x}"
    _mine.add(owner)
    return owner


def retire(owner: str) -> None:
    """That owner has given its file up."""
    _mine.discard(owner)


def former(owner: str) -> str:
    """The name for what that owner has given up: of this place, and of nobody who lives."""
    host, place, pid, _, number = owner.split("-")
    return f"{host}-{place}-0-{pid}-{number}"


def is_here(owner: str) -> bool:
    """Whether `is_alive` can tell."""
    return owner.startswith(here() + "-")


def is_alive(owner: str) -> bool:
    """Whether an owner of this place may still write to its file; when in doubt, yes."""
    if owner in _mine:
        return True
    try:
        pid, start = owner.split("-")[2:4]
        number = int(pid)
    except ValueError:  # not a name of ours
        return False
    if number in {0, os.getpid()}:
        return False  # given up; or it would be in _mine
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return _start(number) in {start, ""}

"""Where a probe works: a private directory that is gone afterwards, however it ends.

Its name says who made it. What a killed probe left is cleared by the next one: at once if its maker is proved
dead, after a day if its maker was on another host.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from stager.cache.files import remove_quietly
from stager.cache.layout import PROBE
from stager.cache.owner import is_alive, is_here, new_owner, retire

FOREIGN_SECONDS = 86_400.0
"""What a probe on another host made may be in use for so long; none takes more than some minutes."""
CARD = ".card"
"""Ending of the file by which a probe with a peer says that it is there."""


@contextmanager
def workplace(directory: str) -> Iterator[str]:
    """A new directory in `directory`, removed at the end; what dead probes left goes first.

    Raises:
        OSError: it can't be made.
    """
    owner = new_owner()
    path = f"{directory}/{PROBE}{owner}"
    try:
        os.mkdir(path, 0o700)
        try:
            clear_leftovers(directory, now=os.stat(path).st_mtime)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        retire(owner)


def clear_leftovers(directory: str, *, now: float) -> int:
    """Remove what probes left whose makers are gone; how many there were.

    Args:
        directory: the one that is probed.
        now: the time by the clock that stamps files there, in seconds since 1970 UTC.
    """
    count = 0
    for name in os.listdir(directory):
        if not name.startswith(PROBE):
            continue
        owner = name.removeprefix(PROBE).removesuffix(CARD)
        path = f"{directory}/{name}"
        if is_alive(owner) if is_here(owner) else not _is_old(path, now):
            continue
        if name.endswith(CARD):
            remove_quietly(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
        count += 1
    return count


def _is_old(path: str, now: float) -> bool:
    with suppress(OSError):
        return now - os.stat(path).st_mtime > FOREIGN_SECONDS
    return False

"""Listing a directory that is empty most of the time: asked again, it costs one call."""

from __future__ import annotations

import os

from stager.clock import Clock

SETTLED_SECONDS = 2.0
"""A directory changed twice within one tick of the server's clock has one time for both; this is longer."""


class VacantDirectories:
    """Remembers directories that were empty, by the time at which they changed last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed: dict[str, int] = {}

    def names(self, directory: str) -> list[str]:
        """What is in the directory; nothing if there is none.

        Raises:
            OSError: it can't be read.
        """
        try:
            changed = os.stat(directory).st_mtime_ns  # before listing: what comes meanwhile changes it
            if self._changed.get(directory) == changed:
                return []
            names = os.listdir(directory)
        except FileNotFoundError:
            return []
        if not names and self._clock.time() - changed / 1e9 > SETTLED_SECONDS:
            self._changed[directory] = changed
        return names

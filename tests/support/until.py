"""Waiting for what happens elsewhere: another host, another process."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0
_PAUSE = 0.1


def until(happened: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until `happened` says yes; `what` it is, as a sentence, for when it does not."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(_PAUSE)

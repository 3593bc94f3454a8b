"""How much there is of what, for people to look at: counted aside, so that nobody waits for a million rows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from stager.clock import Clock
from stager.errors import StagerError
from stager.model.catalogue import Selection, Totals

log = logging.getLogger(__name__)

FRESH_SECONDS = 60.0
"""Totals are counted again when they are as old as this, and somebody looks."""
TIMES = 50.0
"""And as this many times what counting took: it is at most 2 % of a processor."""
MOST = 50
"""Selections of which totals are kept."""


@dataclass(frozen=True, slots=True)
class Outline:
    """Totals, and when they were counted (seconds since 1970 UTC)."""

    totals: Totals
    at: float


@dataclass(slots=True)
class _Kept:
    outline: Outline | None = None
    due: float = 0.0
    counting: bool = False


class Outlines:
    """Totals of selections of one catalogue. May be asked from any thread; answers at once.

    Args:
        count: counts, as long as that takes.
        clock: the time.
    """

    def __init__(self, count: Callable[[Selection], Totals], clock: Clock) -> None:
        self._count = count
        self._clock = clock
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._kept: dict[Selection, _Kept] = {}

    def of(self, selection: Selection) -> Outline | None:
        """What was counted last; None: it is being counted for the first time."""
        with self._lock:
            kept = self._kept.setdefault(selection, _Kept())
            if not kept.counting and self._clock.monotonic() >= kept.due:
                kept.counting = True
                threading.Thread(
                    target=self._again, args=(selection, kept), name="outline", daemon=True
                ).start()
            while len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
            return kept.outline

    def _again(self, selection: Selection, kept: _Kept) -> None:
        outline = kept.outline
        with self._turn:  # one at a time
            began = self._clock.monotonic()
            try:
                outline = Outline(self._count(selection), self._clock.time())
            except StagerError as error:
                log.warning("the cache was not counted: %s", error)
            except Exception:
                log.exception("internal fault while counting the cache")
            now = self._clock.monotonic()
        with self._lock:
            kept.outline, kept.counting = outline, False
            kept.due = now + max(FRESH_SECONDS, TIMES * (now - began))

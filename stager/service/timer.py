"""Calls at given times, all from one thread that sleeps in between."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from stager.clock import Clock, SystemClock

_log = logging.getLogger(__name__)


class Timer(Protocol):
    """The port, so that tests let time pass by hand."""

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """Call once when the monotonic clock reaches `when` (seconds)."""
        ...

    def close(self) -> None:
        """Forget what has not been called yet."""
        ...


class ThreadTimer:
    """One thread, started by the first call that is asked for."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """See `Timer.call_at`; ignored once closed."""
        with self._changed:
            if self._closed:
                return
            heappush(self._calls, (when, next(self._number), call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="timer", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """See `Timer.close`; returns when the thread has ended (or at once in that thread)."""
        with self._changed:
            self._closed = True
            self._calls.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while call := self._due():
            try:
                call()
            except Exception:  # noqa: BLE001 - a fault of one call must not end the others
                _log.exception("a timed call broke")

    def _due(self) -> Callable[[], None] | None:
        """Sleep until a call is due; None when closed."""
        with self._changed:
            while not self._closed:
                if not self._calls:
                    self._changed.wait()
                    continue
                rest = self._calls[0][0] - self._clock.monotonic()
                if rest <= 0:
                    return heappop(self._calls)[2]
                self._changed.wait(rest)
        return None

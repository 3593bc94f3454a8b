"""Threads for what a dispatcher has to do, now or in a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count

log = logging.getLogger(__name__)


class DelayedExecutor:
    """A pool of threads, and one that sleeps until something is due; none of them polls.

    Args:
        threads: how many pieces of work may run at once.
        name: of the threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._closed = False
        self._sleeper = threading.Thread(target=self._sleep, name=f"{name}-later", daemon=True)
        self._sleeper.start()

    def submit(self, work: Callable[..., None], *arguments: object) -> None:
        """Do it as soon as a thread is free; ignored once closed."""
        with suppress(RuntimeError):  # the pool is shut down: the next server does it
            self._pool.submit(self._guarded, work, *arguments)

    def submit_after(self, seconds: float, work: Callable[..., None], *arguments: object) -> None:
        """Do it in `seconds`; forgotten by `close`."""
        with self._changed:
            at = time.monotonic() + seconds
            heappush(self._due, (at, next(self._number), lambda: self.submit(work, *arguments)))
            self._changed.notify()

    def close(self) -> None:
        """Return when the work in hand is done; what waits is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._sleeper.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _sleep(self) -> None:
        with self._changed:
            while not self._closed:
                rest = self._due[0][0] - time.monotonic() if self._due else None
                if rest is None or rest > 0:
                    self._changed.wait(rest)
                else:
                    heappop(self._due)[2]()

    @staticmethod
    def _guarded(work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except Exception:  # a fault of ours: say so where people look
            log.exception("internal fault in the dispatcher")

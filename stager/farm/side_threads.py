"""Threads that do for an event loop what may take a while, as few at a time as it takes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

WAIT_SECONDS = 0.002
"""What has waited so long gets another thread, if the process mostly waits too (for a disk, then)."""
BUSY = 0.75
"""Share of its time that a process computes, from which on another thread would only wait for the interpreter."""
LONG_WAIT_SECONDS = 0.02
"""What has waited so long gets another thread in any case: what computes may be a digest, which leaves the interpreter alone."""
TOGETHER = 4
"""So much that has ended is handed over to the loop together, if more waits: to wake the loop costs as much again."""


class _Work(NamedTuple):
    do: Callable[[], Any]
    ended: asyncio.Future[Any]
    since: float


class SideThreads:
    """Does work beside an event loop, in whose thread it is made and used.

    A thread that is busy takes what comes next, and another one is woken only for what waits in vain: threads
    share one interpreter, and to wake one that sleeps costs a good part of what a small file does. They are
    daemons: what they were writing when the interpreter ends is an ordinary leftover.

    Args:
        most: threads at once; they are started as they are needed.
        name: of the threads.
    """

    def __init__(self, most: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._waiting: deque[_Work] = deque()
        self._idle: list[threading.Lock] = []  # each is what a thread sleeps on
        self._threads: set[threading.Thread] = set()
        self._busy = 0
        self._closed = False
        self._ended: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._told = False  # that something has ended
        self._looking = False
        self._looked = 0.0
        self._computed = 0.0

    def do(self, work: Callable[[], T]) -> Awaitable[T]:
        """Do `work`, which may not raise StopIteration, in one of the threads; what it returns or raises."""
        ended: asyncio.Future[T] = self._loop.create_future()
        with self._lock:
            self._waiting.append(_Work(work, ended, self._loop.time()))
            if not self._busy:
                self._wake()
            elif not self._looking:
                self._look_later()
        return ended

    def has(self, thread: threading.Thread) -> bool:
        """Whether that is one of these."""
        return thread in self._threads

    def close(self) -> None:
        """Let the threads end, once nothing waits for them any more."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._wake()

    def _look_later(self) -> None:
        self._looking = True
        self._looked, self._computed = self._loop.time(), time.process_time()
        self._loop.call_later(WAIT_SECONDS, self._look)

    def _look(self) -> None:
        """Give what has waited in vain another thread, and hand over what has ended meanwhile."""
        now = self._loop.time()
        busy = time.process_time() - self._computed > BUSY * (now - self._looked)
        with self._lock:
            for work in self._waiting:
                if (
                    now - work.since < (LONG_WAIT_SECONDS if busy else WAIT_SECONDS)
                    or self._busy == self._most
                ):
                    break
                self._wake()
                if busy:
                    break
            self._looking = bool(self._waiting)
            if self._looking:
                self._look_later()
        self._settle()  # last: what ends from now on while nothing waits is told at once

    def _wake(self) -> None:
        """Let one thread more be busy; with the lock held."""
        self._busy += 1
        if self._idle:
            self._idle.pop().release()
            return
        thread = threading.Thread(
            target=self._run, name=f"{self._name}-{len(self._threads) + 1}", daemon=True
        )
        self._threads.add(thread)
        thread.start()

    # -- in the threads ---------------------------------------------------------------------------

    def _run(self) -> None:
        sleep = threading.Lock()
        sleep.acquire()
        while True:
            with self._lock:
                work = self._waiting.popleft() if self._waiting else None
                if work is None:
                    self._busy -= 1
                    if self._closed:
                        self._threads.discard(threading.current_thread())
                        return
                    self._idle.append(sleep)
            if work is None:
                sleep.acquire()
                continue
            result, failed = None, None
            try:
                result = work.do()
            except BaseException as error:  # noqa: BLE001 - handed to who waits
                failed = error
            self._tell(work.ended, result, failed)
            del work, result, failed  # they may hold a file's memory while this thread sleeps

    def _tell(self, future: asyncio.Future[Any], result: Any, failed: BaseException | None) -> None:
        with self._lock:
            self._ended.append((future, result, failed))
            tell = not self._told and (not self._waiting or len(self._ended) >= TOGETHER)
            self._told = self._told or tell
        if tell:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._settle)

    # -- in the loop's thread again ---------------------------------------------------------------

    def _settle(self) -> None:
        with self._lock:
            ended, self._ended, self._told = self._ended, deque(), False
        for future, result, failed in ended:
            if future.done():  # who waited was cancelled
                continue
            if failed is None:
                future.set_result(result)
            else:
                future.set_exception(failed)

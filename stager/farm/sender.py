"""Hands work to others from a thread of its own, so that whoever decides never waits for the network."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from stager.errors import SignalsError
from stager.model.backoff import outage_wait

log = logging.getLogger(__name__)

Item = TypeVar("Item")

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0
"""Between two attempts while the other side can't be reached."""
MOST_AT_ONCE = 500


class Sender(Generic[Item]):
    """Sends items in the order in which they came; what waits meanwhile goes together.

    Args:
        send: hands items over, all of them or, raising `SignalsError`, perhaps some: they are sent again.
        tend: called now and then in the same thread; its `SignalsError` is taken as one of `send`.
        tend_seconds: how often that is.
        name: of the thread.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], None],
        tend: Callable[[], None],
        *,
        tend_seconds: float,
        name: str,
    ) -> None:
        self._send = send
        self._tend = tend
        self._tend_seconds = tend_seconds
        self._changed = threading.Condition()
        self._items: list[Item] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, items: Sequence[Item]) -> None:
        """Send these; returns at once."""
        with self._changed:
            self._items += items
            self._changed.notify_all()

    def close(self, seconds: float = 0.0) -> None:
        """Send what is left, for at most `seconds`, and end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._items, seconds)
            self._closed = True
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        failures = 0
        tended = time.monotonic()
        while True:
            with self._changed:
                if failures:
                    wait = outage_wait(failures, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
                    self._changed.wait_for(lambda: self._closed, wait)
                else:
                    self._changed.wait_for(lambda: self._items or self._closed, self._tend_seconds)
                if self._closed:
                    return
                some = self._items[:MOST_AT_ONCE]
            try:
                if some:
                    self._hand_over(some)
                if not some or time.monotonic() - tended > self._tend_seconds:
                    self._tend()
                    tended = time.monotonic()
            except SignalsError as error:
                failures += 1
                log.log(
                    logging.ERROR if failures == 1 else logging.DEBUG, "%s; trying again until it can", error
                )
            except Exception:
                failures += 1
                if failures == 1:
                    log.exception("internal fault in %s", self._thread.name)
            else:
                failures = 0

    def _hand_over(self, some: Sequence[Item]) -> None:
        """Send these; one that can't be sent at all, by a fault of ours, must not stop the others."""
        try:
            self._send(some)
        except SignalsError:
            raise
        except Exception:
            log.exception("internal fault in %s", self._thread.name)
            for item in some:
                self._hand_over_alone(item)
        else:
            self._forget(len(some))

    def _hand_over_alone(self, item: Item) -> None:
        try:
            self._send([item])
        except SignalsError:
            raise
        except Exception:
            log.exception("internal fault in %s: given up: %.200r", self._thread.name, item)
        self._forget(1)

    def _forget(self, count: int) -> None:
        with self._changed:
            del self._items[:count]
            self._changed.notify_all()

"""What a worker tells: signals in a stream, none of them lost while the worker lives."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence

import redis

from stager.errors import SignalsError
from stager.model.backoff import outage_wait
from stager.model.events import JobSignal
from stager.model.fetches import Progress, Signal
from stager.signals import keys
from stager.signals.codec import signals_to_json
from stager.signals.connection import RedisAddress

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0
"""Between two attempts to reach Redis."""
MOST_AT_ONCE = 500
"""Signals in one entry of the stream."""

AtEnd = Callable[[redis.client.Pipeline], None]
"""Adds to the pipeline what is to be done together with a signal."""


class Outbox:
    """Sends from one thread, in the order in which it was told; what waits meanwhile goes together.

    Args:
        address: where Redis is.
        worker: name of the worker, told with progress.
    """

    def __init__(self, address: RedisAddress, worker: str) -> None:
        self._address = address
        self._redis = address.connect()
        self._worker = worker
        self._changed = threading.Condition()
        self._waiting: list[tuple[Signal | JobSignal, AtEnd | None]] = []
        self._sending = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def tell(self, *signals: Signal | JobSignal, then: AtEnd | None = None) -> None:
        """Send these; returns at once. `then` goes with the last of them."""
        with self._changed:
            self._waiting += [(signal, None) for signal in signals[:-1]]
            self._waiting.append((signals[-1], then))
            self._changed.notify_all()

    def progress(
        self,
        reports: Sequence[Progress] = (),
        held: Sequence[tuple[str, int]] = (),
        *,
        jobs: Sequence[tuple[str, int]] = (),
    ) -> None:
        """Say how far transfers are, which are worked on, and which `jobs` (with epochs) are; may get lost.

        Raises:
            SignalsError: Redis can't be used.
        """
        entry = {"p": signals_to_json(reports), "h": json.dumps(held)}
        if jobs:
            entry["j"] = json.dumps(jobs)
        with self._address.speaking():
            self._redis.xadd(keys.PROGRESS, entry, maxlen=keys.PROGRESS_ENTRIES, approximate=True)  # type: ignore[arg-type]  # texts are fine

    def flush(self, seconds: float) -> bool:
        """Wait until everything is sent, for at most `seconds`; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._sending, seconds)

    def close(self, seconds: float = 0.0) -> None:
        """Send what is left, for at most `seconds`, and end."""
        self.flush(seconds)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                some = self._waiting[:MOST_AT_ONCE]
                self._sending = True
            try:
                self._send(some)
            except Exception as error:
                failures += 1
                wait = outage_wait(failures, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
                level = logging.WARNING if failures == 1 else logging.DEBUG
                fault = None if isinstance(error, SignalsError) else error
                log.log(level, "%s; %d signals wait, trying again", error, len(some), exc_info=fault)
                with self._changed:
                    self._sending = False
                    if self._changed.wait_for(lambda: self._closed, wait):
                        return
                continue
            if failures:
                log.warning("Redis is back; what waited is sent")
            failures = 0
            with self._changed:
                del self._waiting[: len(some)]
                self._sending = False
                self._changed.notify_all()

    def _send(self, some: Sequence[tuple[Signal | JobSignal, AtEnd | None]]) -> None:
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            pipe.xadd(keys.SIGNALS, {"s": signals_to_json(signal for signal, _ in some)})
            for _, then in some:
                if then is not None:
                    then(pipe)
            pipe.execute()

"""Accesses that their own process may not write down: taken in by the server, sent by everybody else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from stager.cache.access import Accesses, touch
from stager.cache.layout import is_digest
from stager.cache.store import FileCache
from stager.clock import Clock
from stager.errors import InputError

log = logging.getLogger(__name__)

MOST = 10_000
"""Keys in one report."""
MOST_WAITING = 50_000
"""Keys that wait to be sent (some 10 MB); what comes then is forgotten."""
LINGER_SECONDS = 5.0
"""How long more is waited for before a report is sent."""
END_SECONDS = 5.0
"""How long the end of a process may be held up by a report that is on its way."""
REST_SECONDS = 300.0
"""After a report that did not arrive: the server may be away for long, and is not to be asked all the time."""


class AccessService:
    """Takes in what others report.

    Args:
        cache: whose keys they used.
        clock: nobody has used anything later than now.
        told: called with what was news.
    """

    def __init__(
        self, cache: FileCache, clock: Clock, told: Callable[[Accesses], None] | None = None
    ) -> None:
        self.told = told
        self._cache = cache
        self._clock = clock

    def report_accesses(self, accesses: Mapping[str, float]) -> int:
        """These keys (by their digests) were used at these times (seconds since 1970 UTC).

        Returns:
            Of how many that was not known: somebody has written it down in the ten minutes before.

        Raises:
            InputError: too many, or not digests; nothing was written.
            CacheError: the cache has gone, or can't be written.
        """
        if len(accesses) > MOST:
            raise InputError(
                f"{len(accesses)} accesses in one report",
                cause=f"at most {MOST}",
                remedy="send them in parts",
            )
        for digest in accesses:
            if not is_digest(digest):
                raise InputError(f"{digest[:80]!r} is not the SHA-256 of a key")
        self._cache.check()
        now = self._clock.time()
        news = {}
        for digest, when in accesses.items():
            at = min(when, now)
            try:
                if touch(self._cache.tree, digest, at):
                    news[digest] = at
            except FileNotFoundError:  # evicted meanwhile
                continue
            except OSError as error:
                log.debug("an access was not recorded: %s", error)
        if news and self.told is not None:
            self.told(news)
        return len(news)


class AccessReporter:
    """Sends accesses to the server: one thread, begun with the first, that sleeps in between.

    Args:
        send: delivers one report; raises when it could not.
        linger_seconds: how long more is waited for.
    """

    def __init__(self, send: Callable[[Accesses], object], *, linger_seconds: float = LINGER_SECONDS) -> None:
        self._send = send
        self._linger = linger_seconds
        self._lock = threading.Lock()
        self._waiting: dict[str, float] = {}
        self._more = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, accesses: Accesses) -> None:
        """Send these some time soon; returns at once. What can't be sent is forgotten."""
        with self._lock:
            for digest, when in accesses.items():
                if len(self._waiting) < MOST_WAITING:
                    self._waiting[digest] = when
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="accesses", daemon=True)
                self._thread.start()
        self._more.set()

    def finish(self, flush: Callable[[], object]) -> None:
        """At the end of the process: `flush` notes the last ones; send what waits, if the server answers."""
        self._closed.set()  # no thread can be begun any more
        flush()
        self._more.set()
        if self._thread is None:
            self._deliver()
        else:
            self._thread.join(END_SECONDS)

    def _run(self) -> None:
        while True:
            self._more.wait()
            self._closed.wait(self._linger)
            self._more.clear()
            arrived = self._deliver()
            if self._closed.is_set():
                return
            if not arrived:
                self._closed.wait(REST_SECONDS)

    def _deliver(self) -> bool:
        while some := self._next():
            try:
                self._send(some)
            except Exception as error:  # noqa: BLE001 - it is a courtesy: nothing that goes wrong matters to anybody
                log.debug("accesses were not reported: %s", error)
                return False
        return True

    def _next(self) -> dict[str, float]:
        with self._lock:
            return {digest: self._waiting.pop(digest) for digest in list(self._waiting)[:MOST]}

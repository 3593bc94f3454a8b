"""Is the cache still there? Looked at now and then, said once when it changes, shown for as long as it lasts."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from stager.cache.failures import cache_error
from stager.cache.layout import ENTRIES, JOBS, OBJECTS, PARTIAL
from stager.cache.store import FileCache
from stager.clock import Clock
from stager.errors import CacheError, CacheGoneError, CachePermissionError

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
"""Between two looks."""
SILENT_SECONDS = 15.0
"""A file system that has not answered for so long is said not to answer: its server may be down."""
OK, GONE, READ_ONLY, FAILING, SILENT = "ok", "gone", "read-only", "failing", "not-answering"


@dataclass(frozen=True, slots=True)
class CacheState:
    """How the cache is.

    Attributes:
        state: ``ok``; ``gone``: not mounted, moved away, or another one is in its place; ``read-only``;
            ``failing``: the file system says something else; ``not-answering``: it says nothing.
        reason: in words; empty when it is ok.
        since: seconds since 1970 UTC.
    """

    state: str
    reason: str
    since: float


class CacheWatch:
    """One thread, which sleeps in between.

    Args:
        cache: is looked at.
        clock: the time.
        changed: called in that thread with whether the cache can be used, when that changes.
        every_seconds: between two looks.
    """

    def __init__(
        self,
        cache: FileCache,
        clock: Clock,
        changed: Callable[[bool], None],
        *,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._changed = changed
        self._every = every_seconds
        self._state = CacheState(OK, "", clock.time())
        self._trouble: CacheError | None = None
        self._asked: float | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cache-watch", daemon=True)

    @property
    def state(self) -> CacheState:
        """How it was at the last look, or that the look has not come back."""
        asked, known = self._asked, self._state
        if asked is None or self._clock.monotonic() - asked < SILENT_SECONDS:
            return known
        waited = self._clock.monotonic() - asked
        reason = f"the file system of {self._cache.root} has not answered for {waited:.0f} s"
        return CacheState(SILENT, reason, self._clock.time() - waited)

    def trouble(self) -> CacheError | None:
        """Why the cache can't be used now, as of the last look."""
        return self._trouble

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End; a look that does not come back is not waited for."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def look(self) -> CacheState:
        """Look once."""
        self._asked = self._clock.monotonic()
        state, self._trouble = self._examine()
        self._asked = None
        before, reason = self._state, str(self._trouble or "")
        if (state, reason) == (before.state, before.reason):
            return before
        now = self._clock.time()
        self._state = CacheState(state, reason, now)
        if state != OK:
            log.error("%s; what needs the cache waits until it can be used again", reason)
        else:
            log.warning("the cache %s can be used again, after %.0f s", self._cache.root, now - before.since)
        if (state == OK) != (before.state == OK):
            self._changed(state == OK)
        return self._state

    def _examine(self) -> tuple[str, CacheError | None]:
        try:
            self._cache.check()
            self._check_writable()
        except CacheGoneError as error:
            return GONE, error
        except CachePermissionError as error:
            return READ_ONLY, error
        except CacheError as error:
            return FAILING, error
        return OK, None

    def _check_writable(self) -> None:
        root = str(self._cache.root)
        try:
            read_only = os.statvfs(root).f_flag & os.ST_RDONLY
        except OSError as error:
            raise cache_error(error, root, "look at") from error
        if read_only:
            raise CachePermissionError(
                f"nothing can be written to the cache {root}",
                cause="its file system is mounted read-only",
                remedy="mount it for writing",
                path=root,
            )
        for name in (OBJECTS, ENTRIES, PARTIAL, JOBS):
            path = f"{root}/{name}"
            if os.access(path, os.F_OK) and not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
                raise CachePermissionError(
                    f"nothing can be written to {path}",
                    cause="its owner or mode does not allow it",
                    remedy="give it back to the user of the server, with mode 755",
                    path=path,
                )

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                log.exception("internal fault while looking for the cache")
            if self._closed.wait(self._every):
                return

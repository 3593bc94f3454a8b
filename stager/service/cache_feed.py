"""The catalogue follows what happens: what this server brings, keeps, uses and removes at once, all else by and by.

Whoever tells of something only names keys; what there is now is read from the tree. A thread of its own does that,
some hundred keys at a time: nobody waits for it, and nothing is lost that a later walk through the tree would not find.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from stager.cache.access import Accesses, AccessTimes
from stager.cache.walk import TreeReader
from stager.clock import Clock
from stager.errors import CacheError, CacheGoneError, StateError
from stager.mapper.dispatch.results import result_key
from stager.model.cache_views import Rebuilt, Walked
from stager.model.fetches import FetchState
from stager.model.jobs import JobState
from stager.model.keys import key_digest
from stager.model.records import Changes, FetchRecord
from stager.service.cache_rebuild import SlowWalk, rebuild
from stager.service.cache_update import update
from stager.state.catalogue import Catalogue

log = logging.getLogger(__name__)

LINGER_SECONDS = 0.2
"""How long more is waited for when there is something: many rows cost little more than one."""
MOST = 2000
"""Keys taken in at once."""
DUTY = 0.02
"""The share of the time that reading the tree takes."""
STEP_SECONDS = 0.05
"""Of reading the tree in one go: what is told meanwhile waits for so long."""
LONGEST_SECONDS = 10.0
"""Between two looks at whether access times are due."""


class CatalogueFeed:
    """One thread, which sleeps in between.

    Args:
        reader: of the cache.
        catalogue: is kept up.
        access: access times of this process's cache.
        fetches: the records of these fetches, from the database.
        clock: the time.
        every_seconds: between two walks through the tree, at least.
    """

    def __init__(
        self,
        reader: TreeReader,
        catalogue: Catalogue,
        access: AccessTimes,
        fetches: Callable[[Sequence[str]], Mapping[str, FetchRecord]],
        clock: Clock,
        *,
        every_seconds: float,
    ) -> None:
        self._reader = reader
        self._catalogue = catalogue
        self._access = access
        self._fetches = fetches
        self._clock = clock
        self._every = every_seconds
        self._inbox: queue.SimpleQueue[_Told] = queue.SimpleQueue()
        self._walk = SlowWalk(reader, catalogue, clock)
        self._next_step = 0.0
        self._filling: Generator[Walked, None, Rebuilt] | None = None
        self._closed = threading.Event()
        self._silent = False
        self._thread = threading.Thread(target=self._run, name="catalogue", daemon=True)

    def start(self) -> None:
        """Begin; a catalogue that was never read off the tree is, at once."""
        if self._catalogue.walked_at is None:
            self._filling = rebuild(self._reader, self._catalogue, self._clock)
        self._thread.start()

    def close(self) -> None:
        """Take in what was told so far, and end."""
        if self._thread.is_alive():
            self._closed.set()
            self._inbox.put(_Told())
            self._thread.join()

    # -- told by other threads; none of it takes long ---------------------------------------------

    def tell(self, changes: Changes) -> None:
        """These records changed."""
        keys = [(fetch.url, fetch.sha256) for fetch in changes.fetches if fetch.state is FetchState.READY]
        handed: list[str] = []
        for job in changes.jobs:
            if job.state is JobState.RUNNING:
                handed += job.fetches
            elif job.state.is_final:
                keys += [(result_key(job.id, result.name), result.sha256) for result in job.results]
        if keys or handed:
            self._inbox.put(_Told(keys=keys, handed=handed))

    def accessed(self, when: Accesses) -> None:
        """These keys (by their digests) were used, and nobody else says so."""
        self._inbox.put(_Told(accessed=when))

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        over = False
        while not over:
            over = self._closed.is_set()  # what was told before is taken in
            told = self._gather(0.0 if over else self._patience())
            self._attempt(lambda told=told: self._take(told))  # type: ignore[misc]
            self._attempt(self._access.flush_if_due)
            if not over and self._clock.monotonic() >= self._next_step:
                self._attempt(self._look)
        if self._filling is not None:
            self._filling.close()

    def _patience(self) -> float:
        return min(LONGEST_SECONDS, max(0.0, self._next_step - self._clock.monotonic()))

    def _gather(self, patience: float) -> _Told:
        """What is told next, with what comes soon after it."""
        whole = _Told()
        try:
            whole.add(self._inbox.get(timeout=patience) if patience else self._inbox.get_nowait())
            end = self._clock.monotonic() + LINGER_SECONDS
            while len(whole.keys) < MOST:
                left = 0.0 if self._closed.is_set() else end - self._clock.monotonic()
                whole.add(self._inbox.get(timeout=left) if left > 0 else self._inbox.get_nowait())
        except queue.Empty:
            pass
        return whole

    def _take(self, told: _Told) -> None:
        if told.keys:
            had = [(key_digest(key), sha256) for key, sha256 in told.keys]
            update(
                self._reader,
                self._catalogue,
                {digest for digest, _ in had},
                had,
            )
        if told.handed:
            self._access.used(
                key_digest(fetch.url) for fetch in self._fetches(list(dict.fromkeys(told.handed))).values()
            )
        if told.accessed:
            self._catalogue.accessed(told.accessed)

    def _look(self) -> None:
        """The next piece of the tree."""
        began = self._clock.monotonic()
        pause = self._every
        try:
            if self._filling is not None:
                done = next(self._filling, None)
                pause = 0.0
                if done is None:
                    self._filling = None
                    log.debug("the catalogue has been read off the cache")
            elif not self._walk.step(STEP_SECONDS):
                pause = (self._clock.monotonic() - began) / DUTY
        except (CacheError, StateError):
            self._filling = None
            raise
        finally:
            self._next_step = self._clock.monotonic() + pause

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except CacheGoneError:  # said by those who watch it; what was away is read when it is back
            return
        except (CacheError, StateError, OSError) as error:  # a later walk makes up for it
            if not self._silent:
                log.warning("the catalogue of the cache does not follow: %s", error)
            self._silent = True
        except Exception:
            log.exception("internal fault while the catalogue was kept up")
        else:
            self._silent = False


class _Told:
    """What happened to which keys; each with the object that it got."""

    def __init__(
        self,
        keys: Sequence[tuple[str, str]] = (),
        handed: Sequence[str] = (),
        accessed: Accesses | None = None,
    ) -> None:
        self.keys = list(keys)
        self.handed = list(handed)
        self.accessed = dict(accessed or {})

    def add(self, more: _Told) -> None:
        self.keys += more.keys
        self.handed += more.handed
        self.accessed |= more.accessed

"""A node's own cache: filled from the share, from the server or from origins, one transfer per node, kept within limits."""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from stager.cache.flight import flight
from stager.errors import (
    CacheError,
    CacheFullError,
    CacheTooSmallError,
    CancelledError,
    DigestMismatchError,
    FetchError,
    FileTooLargeError,
    StagerError,
)
from stager.farm.base import Fetch
from stager.model.backoff import RetryPolicy
from stager.model.catalogue import CachedFile
from stager.model.events import DispatchInput
from stager.model.fetches import FetchOrder, FetchRequest
from stager.model.keys import key_digest
from stager.service.cache_site import CacheSite

log = logging.getLogger(__name__)

Places = Callable[[str], Sequence[str]]
"""For the SHA-256 of an object the URLs where it may be had, the first one to be tried first."""
KEEPER = "keeper"
"""Name of the lock of the one process of a node that keeps the cache within its limits."""


def _is_lost(error: Exception, sha256: str, *, only: bool) -> bool:
    """Whether to try again is no use: the server (or the `only` place) does not have it, has other bytes, or it is too large."""
    if isinstance(error, DigestMismatchError | FileTooLargeError | CacheTooSmallError):
        return True
    if not isinstance(error, FetchError) or error.details.get("status") not in {404, 410}:
        return False
    return only or str(error.details.get("url")).endswith(f"/v1/objects/{sha256}")


class NearCache:
    """Objects in a node's own cache.

    Args:
        site: the cache; closed with this.
        fetch: one try of a fetch into it.
        places: where objects are.
        locks: directory on a local disk for the locks of the node's processes.
        retry: how tries follow each other.
        told: told of the objects that are new.
        every_seconds: between two looks at the limits.
    """

    def __init__(
        self,
        site: CacheSite,
        fetch: Fetch,
        places: Places,
        locks: Path,
        *,
        retry: RetryPolicy,
        told: Callable[[Sequence[str]], None] = lambda _: None,
        every_seconds: float = 60.0,
    ) -> None:
        self.cache = site.cache
        self._site = site
        self._fetch = fetch
        self._places = places
        self._locks = locks
        self._retry = retry
        self._told = told
        self._every = every_seconds
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="near-keeper", daemon=True)
        locks.mkdir(mode=0o700, parents=True, exist_ok=True)

    def start(self) -> None:
        """Begin to keep it within its limits."""
        self._keeper.start()

    def close(self) -> None:
        """Stop; what is under way is broken off, and gone on with the next time."""
        self._closed.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self._site.close()

    def fill(self, inputs: Iterable[DispatchInput], cancelled: Callable[[], bool]) -> set[str]:
        """Bring these in, as far as that can be done; what is restricted is left where it is.

        Returns:
            Digests of those that would not come however often it were tried.
        """
        lost = set()
        for item in inputs:
            if item.restricted or cancelled():
                continue
            places = self._places(item.sha256)
            if not places:
                lost.add(item.sha256)
                continue
            try:
                self.bring(item.sha256, item.size, cancelled)
            except CancelledError:
                break
            except (FetchError, CacheError, OSError) as error:
                log.warning("input %s is not brought to this node: %s", item.name, error)
                if _is_lost(error, item.sha256, only=len(places) == 1):
                    lost.add(item.sha256)
        return lost

    def bring(self, sha256: str, size: int | None, cancelled: Callable[[], bool]) -> Path:
        """Have the object here; several who ask for it at once, in whatever process of this host, wait for one transfer.

        Args:
            sha256: its digest; what comes must have it.
            size: its size, or None.
            cancelled: asked several times per second whether to give up.

        Raises:
            FetchError: it can't be had.
            CancelledError: given up.
            CacheError: it can't be stored.
            OSError: the locks can't be used.
        """
        if not self.cache.has_object(sha256, size):
            with flight(self._locks / sha256, lambda: self._closed.is_set() or cancelled()) as is_ours:
                if not is_ours:
                    raise CancelledError(f"object {sha256} is not brought to this node")
                if not self.cache.has_object(sha256, size):
                    self._transfer(sha256, size, cancelled)
        self._used(sha256)
        return self.cache.object_path(sha256)

    def tidy(self) -> None:
        """Keep it within its limits, unless another process of this node does.

        Raises:
            StagerError: it can't be done.
        """
        with flight(self._locks / KEEPER, lambda: True) as is_ours:
            if is_ours:
                self._limit()

    # -- parts -----------------------------------------------------------------------------------

    def _transfer(self, sha256: str, size: int | None, cancelled: Callable[[], bool]) -> None:
        first, *others = self._places(sha256)
        request = FetchRequest(first, sha256=sha256, size=size, mirrors=tuple(others))
        name = f"near-{uuid.uuid4().hex[:12]}"
        made_room, fruitless, began = False, 0, time.monotonic()
        for generation in itertools.count(1):
            order = FetchOrder(name, generation, request)
            try:
                self._fetch(order, cancelled=lambda: self._closed.is_set() or cancelled())
            except CacheFullError:
                if made_room or size is None:
                    raise
                self._site.eviction.make_room(size)
                made_room = True
            except FetchError as error:
                fruitless = 0 if error.details.get("progressed") else fruitless + 1
                now = time.monotonic()
                again = self._retry.next_try(fruitless, started=began, now=now, jitter=random.random())  # noqa: S311 - no secret
                if not error.transient or again is None:
                    raise
                self._rest(again, cancelled)
            else:
                break
        entry = self.cache.lookup(request.key)
        if entry is not None:
            with suppress(StagerError):  # a rebuild finds it
                self._site.catalogue.put([CachedFile.of(entry, key_digest(entry.key), entry.stored_at)])
        self._told([sha256])

    def _rest(self, until: float, cancelled: Callable[[], bool]) -> None:
        while (left := until - time.monotonic()) > 0 and not cancelled():
            if self._closed.wait(min(left, 0.2)):
                return

    def _used(self, sha256: str) -> None:
        with suppress(StagerError):  # then it looks a little older than it is
            files = self._site.catalogue.of_object(sha256)
            self.cache.access.used(file.digest for file in files)
            self._site.catalogue.accessed({file.digest: time.time() for file in files})

    def _limit(self) -> None:
        if self._site.catalogue.walked_at is None:
            deque(self._site.files.rebuild(), maxlen=0)
        deque(self._site.eviction.enforce(), maxlen=0)

    def _keep(self) -> None:
        """The thread; of the node's processes one at a time keeps the cache, until it ends."""
        with flight(self._locks / KEEPER, self._closed.is_set) as is_ours:
            while is_ours and not self._closed.is_set():
                try:
                    self._limit()
                except StagerError as error:
                    log.warning("the node's cache can't be kept within its limits: %s", error)
                except Exception:  # a fault of ours must not end it
                    log.exception("internal fault in the keeper of the node's cache")
                self._closed.wait(self._every)

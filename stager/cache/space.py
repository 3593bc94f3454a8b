"""Room for what is being fetched: promised before the first byte, so that a disk never fills up half-way."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Protocol

from stager.cache.failures import cache_error
from stager.errors import CacheFullError
from stager.model.sizes import written


class Promises(Protocol):
    """Bytes that are still going to be written, by fetch."""

    def promise(self, fetch: str, size: int, room: int) -> int | None:
        """Promise `size` bytes (in place of what the fetch was promised before) if all promises fit into `room`.

        Returns:
            None if they do; else what is promised to the others, and nothing is changed.
        """
        ...

    def keep(self, left: Mapping[str, int]) -> None:
        """Of these promises so much is left."""
        ...

    def withdraw(self, fetch: str) -> None:
        """Nothing more will be written."""
        ...


class LocalPromises:
    """The promises of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}

    def promise(self, fetch: str, size: int, room: int) -> int | None:
        """See `Promises.promise`."""
        with self._lock:
            others = sum(self._sizes.values()) - self._sizes.get(fetch, 0)
            if others + size > room:
                return others
            self._sizes[fetch] = size
            return None

    def keep(self, left: Mapping[str, int]) -> None:
        """See `Promises.keep`."""
        with self._lock:
            self._sizes |= {fetch: size for fetch, size in left.items() if fetch in self._sizes}

    def withdraw(self, fetch: str) -> None:
        """See `Promises.withdraw`."""
        with self._lock:
            self._sizes.pop(fetch, None)


class Space:
    """The room of one cache.

    Args:
        root: of the cache.
        promises: what is promised to whom.
        keep_free: bytes of the file system that are left alone.
    """

    def __init__(self, root: str | os.PathLike[str], promises: Promises, *, keep_free: int = 0) -> None:
        self._root = os.fspath(root)
        self._promises = promises
        self._keep_free = keep_free

    def reserve(self, fetch: str, size: int) -> None:
        """Promise `size` bytes to the fetch.

        Raises:
            CacheFullError: there is not so much room; nothing was promised.
            CacheError: the file system does not say how much there is.
        """
        try:
            found = os.statvfs(self._root)
        except OSError as error:
            raise cache_error(error, self._root, "look at") from error
        free = found.f_bavail * found.f_frsize
        others = self._promises.promise(fetch, size, free - self._keep_free)
        if others is None:
            return
        parts = [f"{free:,} bytes are free"]
        parts += [f"{others:,} of them are promised to other fetches"] if others else []
        parts += [f"{self._keep_free:,} are to be kept free"] if self._keep_free else []
        raise CacheFullError(
            f"cache {self._root} has no room for {size:,} bytes",
            cause=", ".join(parts),
            remedy=f"make room: `stager cache purge --to-free {written(size + self._keep_free + others)}` removes what "
            "nobody used for longest; or wait until other fetches are done",
            needed=size,
            promised=others,
            free=free,
        )

    def written(self, fetch: str, left: int) -> None:
        """`left` bytes of what was promised are not written yet."""
        self._promises.keep({fetch: left})

    def release(self, fetch: str) -> None:
        """The fetch will write nothing more."""
        self._promises.withdraw(fetch)

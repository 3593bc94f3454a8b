"""Room for what is being fetched: promised before the first byte, so that a disk never fills up half-way."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Protocol

from stager.cache.failures import cache_error
from stager.errors import CacheFullError, CacheTooSmallError
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
        keep_free_inodes: likewise, names for files.
        at_most: bytes that the cache may hold; 0: as many as there are.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        promises: Promises,
        *,
        keep_free: int = 0,
        keep_free_inodes: int = 0,
        at_most: int = 0,
    ) -> None:
        self._root = os.fspath(root)
        self._promises = promises
        self._keep_free = keep_free
        self._keep_free_inodes = keep_free_inodes
        self._at_most = at_most

    def reserve(self, fetch: str, size: int, total: int | None = None) -> None:
        """Promise `size` bytes to the fetch, whose whole file has `total`, some of which may be in place.

        Raises:
            CacheFullError: there is not so much room; nothing was promised.
            CacheTooSmallError: there will never be, whatever is evicted; nothing was promised.
            CacheError: the file system does not say how much there is.
        """
        try:
            found = os.statvfs(self._root)
        except OSError as error:
            raise cache_error(error, self._root, "look at") from error
        self._check_fits(size if total is None else total, found)
        # A file system that does not count its inodes says 0 of them all.
        if self._keep_free_inodes and found.f_files and found.f_favail < self._keep_free_inodes:
            raise CacheFullError(
                f"cache {self._root} has too few inodes for one more file",
                cause=f"{found.f_favail:,} are free, {self._keep_free_inodes:,} are to be kept free",
                remedy="make room: `stager cache purge --older-than 30d`, or any other; each file gives back two or more",
                needed=size,
                inodes=found.f_favail,
            )
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

    def _check_fits(self, total: int, found: os.statvfs_result) -> None:
        whole = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
        whole -= (
            self._keep_free if self._keep_free < whole else 0
        )  # else nothing fits, and the limit is at fault
        larger = "use a larger file system for cache_dir"
        limits = [(whole, f"its file system holds {whole:,} beside what is to be kept free", larger)]
        if self._at_most:
            limits.append((self._at_most, f"max_cache_bytes allows {self._at_most:,}", "raise that limit"))
        most, why, remedy = min(limits)
        if total <= most:
            return
        raise CacheTooSmallError(
            f"a file of {total:,} bytes can't be in the cache {self._root}",
            cause=f"{why}, even if all else were evicted",
            remedy=remedy,
            size=total,
            most=max(0, most),
        )

    def written(self, fetch: str, left: int) -> None:
        """`left` bytes of what was promised are not written yet."""
        self._promises.keep({fetch: left})

    def release(self, fetch: str) -> None:
        """The fetch will write nothing more."""
        self._promises.withdraw(fetch)

"""What is in the cache: lists, totals, one file, from the catalogue at once; and the catalogue itself, made anew."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress

from stager.cache.failures import cache_error
from stager.cache.holders import held_bytes
from stager.cache.layout import TRASH, is_digest
from stager.cache.store import FileCache
from stager.cache.walk import TreeReader
from stager.clock import Clock
from stager.errors import ConflictError, InputError, NotFoundError
from stager.model.cache_views import CacheSpace, CacheTotals, FileDetail, Listing, Rebuilt, Walked
from stager.model.catalogue import CachedFile, Selection, Sort
from stager.model.keys import key_digest
from stager.model.urls import parse_url
from stager.service.cache_detail import detail
from stager.service.cache_rebuild import rebuild
from stager.service.cache_update import update
from stager.state.catalogue import Catalogue


class CatalogueService:
    """Answers of the catalogue.

    Args:
        cache: whose files they are.
        catalogue: its rows.
        reader: reads its tree.
        clock: the time, for classes of age.
        max_cache_bytes: see the setting.
        max_used_percent: likewise.

    Attributes:
        reserved: bytes promised to fetches that run.
        evictable: bytes that an eviction of all that nobody holds would free; None: all but what is held and promised.
    """

    def __init__(
        self,
        cache: FileCache,
        catalogue: Catalogue,
        reader: TreeReader,
        clock: Clock,
        *,
        max_cache_bytes: int = 0,
        max_used_percent: float = 100.0,
    ) -> None:
        self.reserved: Callable[[], int] = int
        self.evictable: Callable[[], int] | None = None
        self._cache = cache
        self._catalogue = catalogue
        self._reader = reader
        self._clock = clock
        self._max_cache_bytes = max_cache_bytes
        self._max_used_percent = max_used_percent
        self._rebuilding = threading.Lock()

    def ls(
        self,
        selection: Selection = Selection(),  # noqa: B008 - frozen
        sort: Sort = Sort.SIZE,
        *,
        limit: int | None = 100,
        offset: int = 0,
    ) -> Listing:
        """At most `limit` files of the selection, in that order, from the `offset`-th on.

        Raises:
            StateError: the catalogue can't be read.
        """
        found = self._catalogue.ls(selection, sort, limit=limit, offset=offset)
        all_of_them = limit is None or len(found) < limit
        total = offset + len(found) if all_of_them and found else self._catalogue.count(selection)
        return Listing(found, total, self._catalogue.walked_at)

    def page(
        self,
        selection: Selection,
        sort: Sort,
        *,
        limit: int,
        after: int | None = None,
        reverse: bool = False,
    ) -> tuple[list[CachedFile], int | None]:
        """At most `limit` files behind that one, and behind which there are more; costs the same on every page.

        Raises:
            NotFoundError: the file `after` is gone.
            StateError: the catalogue can't be read.
        """
        return self._catalogue.page(selection, sort, limit=limit, after=after, reverse=reverse)

    def key_of(self, digest: str) -> str:
        """The key with that digest.

        Raises:
            NotFoundError: no file has it.
            StateError: the catalogue can't be read.
        """
        found = self._catalogue.file(digest) if is_digest(digest) else None
        if found is None:
            raise NotFoundError(
                f"there is no file {digest[:80]!r} in the cache", cause="it has gone, perhaps"
            )
        return found.key

    def show(self, word: str) -> FileDetail:
        """One file, by its key, its URL, or (the beginning of) its SHA-256.

        Raises:
            NotFoundError: the cache does not have it.
            InputError: several files begin like that.
            CacheError: the tree can't be read.
            StateError: the catalogue can't be read.
        """
        return detail(self._reader, self._catalogue, word)

    def totals(self, selection: Selection = Selection()) -> CacheTotals:  # noqa: B008 - frozen
        """How much there is, by host, owner, age, size and kind, and how much room.

        Raises:
            CacheError: the file system does not say.
            StateError: the catalogue can't be read.
        """
        totals = self._catalogue.totals(self._clock.time(), selection)
        return CacheTotals(totals, self._space(), self._catalogue.walked_at)

    def remove(self, keys: Iterable[str]) -> list[str]:
        """Forget keys and give their space back, where no job or pin holds it; those that were not there.

        Raises:
            CacheError: the file system failed; the rest may still be there.
            StateError: they are gone, and the catalogue lists them until it is read anew.
        """
        missing, removed = [], set()
        for word in keys:
            key = canonical(word)
            removed.add(key_digest(key))
            if not self._cache.remove(key):
                missing.append(word)
        update(self._reader, self._catalogue, removed)
        return missing

    def rebuild(self) -> Generator[Walked, None, Rebuilt]:
        """Read the whole catalogue off the tree; yields how far it is. What was counted stays: hits, verifications.

        Raises:
            ConflictError: a rebuild is under way.
            CacheError: the tree can't be read.
            StateError: the catalogue can't be written.
        """
        if not self._rebuilding.acquire(blocking=False):
            raise ConflictError("the catalogue is being rebuilt already", remedy="wait for that to end")
        try:
            return (yield from rebuild(self._reader, self._catalogue, self._clock))
        finally:
            self._rebuilding.release()

    def _space(self) -> CacheSpace:
        root = self._reader.root
        try:
            found = os.statvfs(root)
            evictable = self._evictable() if self.evictable is None else self.evictable()
            trash_files, trash_bytes = _contents(f"{root}/{TRASH}")
        except OSError as error:
            raise cache_error(error, error.filename or root, "look at") from error
        return CacheSpace(
            size=(found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize,
            free=found.f_bavail * found.f_frsize,
            reserved=self.reserved(),
            evictable=evictable,
            trash_files=trash_files,
            trash_bytes=trash_bytes,
            max_cache_bytes=self._max_cache_bytes,
            max_used_percent=self._max_used_percent,
            inodes=found.f_files,
            free_inodes=found.f_favail,
        )

    def _evictable(self) -> int:
        held = held_bytes(self._reader.tree)
        promised = self._catalogue.promised(self._clock.time())
        return max(0, self._catalogue.size()[1] - held - promised)


def canonical(word: str) -> str:
    """A URL in the form that keys have; any other key as it is."""
    with suppress(InputError):
        return parse_url(word).text
    return word


def _contents(directory: str) -> tuple[int, int]:
    """Files and bytes below a directory; what goes meanwhile is left out."""
    files = size = 0
    with suppress(FileNotFoundError), os.scandir(directory) as found:
        for item in found:
            with suppress(FileNotFoundError):
                if item.is_dir(follow_symlinks=False):
                    more = _contents(item.path)
                    files, size = files + more[0], size + more[1]
                else:
                    files, size = files + 1, size + item.stat(follow_symlinks=False).st_size
    return files, size

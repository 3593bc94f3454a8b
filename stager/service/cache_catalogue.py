"""What is in the cache: lists, totals, one file, from the catalogue at once."""

from __future__ import annotations

import os

from stager.cache.store import FileCache
from stager.clock import Clock
from stager.errors import NotFoundError
from stager.model.cache_views import CacheSpace, CacheTotals, FileDetail, Listing
from stager.model.catalogue import Selection, Sort
from stager.model.keys import key_digest
from stager.state.catalogue import Catalogue


class CatalogueService:
    """Answers of the catalogue.

    Args:
        cache: whose files they are.
        catalogue: its rows.
        clock: the time, for classes of age.
    """

    def __init__(self, cache: FileCache, catalogue: Catalogue, clock: Clock) -> None:
        self._cache = cache
        self._catalogue = catalogue
        self._clock = clock

    def ls(
        self,
        selection: Selection = Selection(),  # noqa: B008 - frozen
        sort: Sort = Sort.SIZE,
        *,
        limit: int | None = 100,
        offset: int = 0,
    ) -> Listing:
        """At most `limit` files of the selection, in that order.

        Raises:
            StateError: the catalogue can't be read.
        """
        found = self._catalogue.ls(selection, sort, limit=limit, offset=offset)
        return Listing(found, len(found), self._catalogue.walked_at)

    def show(self, word: str) -> FileDetail:
        """One file, by its key, its URL or (the beginning of) its SHA-256.

        Raises:
            NotFoundError: the cache does not have it.
        """
        file = self._catalogue.file(key_digest(word))
        if file is None:
            raise NotFoundError(f"{word} is not in the cache", remedy="`stager cache ls` lists what is")
        return FileDetail(file, str(self._cache.object_path(file.object)))

    def totals(self, selection: Selection = Selection()) -> CacheTotals:  # noqa: B008 - frozen
        """How much there is, by host, owner, age, size and kind, and how much room.

        Raises:
            StateError: the catalogue can't be read.
        """
        totals = self._catalogue.totals(self._clock.time(), selection)
        found = os.statvfs(self._cache.root)
        space = CacheSpace(
            found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, 0, 0, 0, 0, 0, 100.0
        )
        return CacheTotals(totals, space, self._catalogue.walked_at)

"""What of the cache is there for whom. For everybody: what everybody may read. Else: who has a grant, or left it.

`only` is the user who asks, None whoever reaches all there is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from stager.cache.entries import EntryFiles
from stager.cache.store import FileCache
from stager.errors import ForbiddenError, InputError, NotFoundError
from stager.model.cache_views import Content, FileDetail
from stager.model.catalogue import RESULT, CachedFile
from stager.model.entries import Entry
from stager.model.keys import key_digest, parse_sha256
from stager.model.urls import parse_url
from stager.service.cache_catalogue import CatalogueService, canonical
from stager.service.cache_content import ContentService, MayRead
from stager.service.grants import GrantService


def _nobody() -> None:
    """Nobody is told."""


class CacheReach:
    """Says what each user may see of one cache.

    Args:
        cache: the files; None: there are none.
        grants: who has proved what; None: nobody has.
    """

    def __init__(self, cache: FileCache | None, grants: GrantService | None) -> None:
        self._cache = cache
        self._grants = grants

    def sees(self, file: Entry | CachedFile, only: str | None) -> bool:
        """Whether the file is there for that user.

        What a job left is there for its owner. What came for a credential is there for who has proved that he may
        read it; that he was the first who wanted it is no proof.
        """
        if only is None:
            return True
        if file.key.startswith(RESULT):
            return file.owner == only
        if not file.restricted:
            return True
        return self._readable(only)(file.object, file.key)

    def show(self, files: CatalogueService, word: str, only: str | None) -> FileDetail:
        """See `CatalogueService.show`; a digest is to be given in full, and who else holds the file is not said.

        Raises:
            NotFoundError: it is not there for that user.
        """
        if only is None:
            return files.show(word)
        if self._entry(word) is None:
            with suppress(InputError):
                word = parse_sha256(word)  # a beginning of one would tell of others' files
                found = files.show(word)
                return _alone(self._seen(found, word, only))
            raise _not_there(word)
        return _alone(self._seen(files.show(word), word, only))

    def open(
        self, content: ContentService, word: str, only: str | None, told: Callable[[], None] = _nobody
    ) -> tuple[Content, BinaryIO]:
        """See `ContentService.open`; `told` is, before it is given, of what is not for everybody.

        Raises:
            NotFoundError: it is not there for that user.
        """
        if only is not None and canonical(word).startswith(RESULT):
            entry = self._entry(word)
            if entry is None or entry.owner != only:
                raise _not_there(word)
        return content.open(word, self._readable(only, told))

    def open_object(
        self, content: ContentService, word: str, only: str | None, told: Callable[[], None] = _nobody
    ) -> tuple[Content, BinaryIO]:
        """See `ContentService.open_object`; `told` as of `open`.

        Raises:
            NotFoundError: it is not there for that user.
        """
        if only is not None:
            rows = [file for file in content.catalogue.of_object(parse_sha256(word)) if not file.restricted]
            if rows and all(file.key.startswith(RESULT) and file.owner != only for file in rows):
                raise _not_there(word)
        return content.open_object(word, self._readable(only, told))

    def check_pin(self, files: CatalogueService, word: str, only: str | None) -> None:
        """Whether that user may let the file stay: whoever is shown it may.

        Raises:
            NotFoundError: it is not there for him.
        """
        if only is not None:
            self.show(files, word, only)

    def check_put(self, word: str, only: str | None) -> None:
        """Whether that user may put something under the key: a name that nobody else has, and no URL.

        Raises:
            ForbiddenError: he may not: others would take it for what the origin has, or for theirs.
        """
        if only is None:
            return
        entry = self._entry(word)
        is_url = "://" in canonical(word)  # `file:/x` is one too
        if is_url or (entry is not None and entry.owner != only):
            raise ForbiddenError(
                f"{only} may not put anything under that key",
                cause="it is a URL" if is_url else "it is another's",
                remedy="choose a key of your own, or ask an operator",
            )

    def _readable(self, only: str | None, told: Callable[[], None] = _nobody) -> MayRead:
        """What of the restricted objects, of which alone it is asked, that user may read."""
        grants = self._grants

        def may_read(sha256: str, key: str | None) -> bool:
            may = only is None or (grants is not None and grants.allows(only, sha256, key))
            if may:
                told()
            return may

        return may_read

    def _entry(self, word: str) -> Entry | None:
        if self._cache is None:
            return None
        return EntryFiles(self._cache.tree).current(key_digest(canonical(word)))

    def _seen(self, detail: FileDetail, word: str, only: str) -> FileDetail:
        if not self.sees(detail.file, only):
            raise _not_there(word)
        return detail


def _alone(detail: FileDetail) -> FileDetail:
    return replace(detail, keys=(), holders=(), versions=())


def _not_there(word: str) -> NotFoundError:
    shown = word
    with suppress(InputError):
        shown = parse_url(word).redacted
    return NotFoundError(f"{shown} is not in the cache", remedy="`stager cache ls` lists what is")

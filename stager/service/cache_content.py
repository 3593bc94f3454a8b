"""Bytes into the cache and out of it, a block at a time, whatever the size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

from stager.cache.objects import open_object
from stager.cache.partial import Partial, create_unnamed
from stager.cache.store import FileCache
from stager.cache.writer import BLOCK_BYTES, ObjectWriter
from stager.clock import Clock
from stager.errors import DigestMismatchError, InputError, NotFoundError
from stager.model.cache_views import Content
from stager.model.catalogue import RESULT, UNNAMED, CachedFile
from stager.model.entries import Entry
from stager.model.jobs import check_owner
from stager.model.keys import SHA256, key_digest, parse_sha256, sha256_key
from stager.model.urls import parse_url
from stager.state.catalogue import Catalogue

_OPEN_TRIES = 4
"""A file may be replaced, or evicted and fetched again, between look-up and opening."""
LONGEST_KEY = 8192
"""Characters, as of a URL."""


MayRead = Callable[[str, str | None], bool]
"""Whether who asks may read a restricted object: by its digest, under that key (None: under any)."""


def everything(_sha256: str, _key: str | None) -> bool:
    """May be read."""
    return True


class Incoming:
    """A file on its way into the cache: written a block at a time, and there, whole, once it is finished.

    After an exception in a ``with`` block nothing is there, and nothing is left.
    """

    def __init__(self, service: ContentService, key: str, sha256: str | None, owner: str) -> None:
        self._service = service
        self._key = key
        self._expected = sha256
        self._owner = owner
        self._made: list[Entry] = []
        self._writer = ObjectWriter(create_unnamed(service.cache.tree, key_digest(key)), self._publish)

    def write(self, block: bytes) -> None:
        """Take all of `block`.

        Raises:
            CacheError: it can't be stored; nothing is left.
        """
        self._writer.write(block)

    def finish(self) -> Content:
        """Let it be the key's file.

        Raises:
            DigestMismatchError: it is not what was announced; nothing is left.
            CacheError: it can't be stored; the key has what it had.
        """
        self._writer.close()
        (entry,) = self._made
        return self._service.stored(entry)

    def abort(self) -> None:
        """Give it up. Idempotent."""
        self._writer.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _publish(self, partial: Partial, digest: str, size: int) -> None:
        if self._expected not in {None, digest}:
            raise DigestMismatchError(
                f"{_shown(self._key)} was not stored",
                cause=f"its SHA-256 is {digest}, {self._expected} was announced",
                remedy="send it again",
            )
        cache = self._service.cache
        cache.publish(partial, digest, size)
        entry = Entry(self._key, digest, size, self._service.clock.time(), owner=self._owner)
        cache.record(entry)
        self._made.append(entry)


@dataclass(frozen=True, slots=True)
class ContentService:
    """Puts files into one cache and reads them.

    Attributes:
        cache: the files.
        catalogue: lists what was put.
        clock: the time.
    """

    cache: FileCache
    catalogue: Catalogue
    clock: Clock

    def begin(self, key: str, *, sha256: str | None = None, owner: str = "") -> Incoming:
        """A file that will be the key's.

        Args:
            key: a name of your own, or a URL whose content this is.
            sha256: digest that it must have.
            owner: whose it is.

        Raises:
            InputError: a key, digest or owner that makes no sense.
            CacheError: the cache can't be written to.
        """
        digest = None if sha256 is None else parse_sha256(sha256)
        return Incoming(self, _own_key(key), digest, check_owner(owner))

    def put(
        self, key: str, blocks: Iterable[bytes], *, sha256: str | None = None, owner: str = ""
    ) -> Content:
        """Store these bytes as the key's file. See `begin`."""
        with self.begin(key, sha256=sha256, owner=owner) as incoming:
            for block in blocks:
                incoming.write(block)
            return incoming.finish()

    def open(self, word: str, may_read: MayRead = everything) -> tuple[Content, BinaryIO]:
        """The key's file, open for reading.

        Raises:
            NotFoundError: the cache does not have it, or nothing that who asks may read.
            CacheError: the file system failed.
        """
        key = _canonical(word)
        for _ in range(_OPEN_TRIES):
            entry = self.cache.lookup(key)
            if entry is None or (entry.restricted and not may_read(entry.object, key)):
                break
            file = open_object(self.cache.tree, entry.object, restricted=entry.restricted)
            if file is not None:
                return Content(_shown(key), entry.object, entry.size), file
        raise NotFoundError(f"{_shown(key)} is not in the cache", remedy="`stager cache ls` lists what is")

    def open_object(self, word: str, may_read: MayRead = everything) -> tuple[Content, BinaryIO]:
        """The object with that SHA-256, open for reading: the public one, or one that who asks may read.

        Raises:
            InputError: not a digest.
            NotFoundError: the cache does not have it, or nothing that who asks may read.
            CacheError: the file system failed.
        """
        sha256 = parse_sha256(word)
        self.cache.check()
        files = self.catalogue.of_object(sha256)
        for restricted in (False, True):
            if restricted and not may_read(sha256, None):
                break
            file = open_object(self.cache.tree, sha256, restricted=restricted)
            if file is not None:
                self.cache.access.used(one.digest for one in files if one.restricted is restricted)
                return Content(sha256_key(sha256), sha256, os.fstat(file.fileno()).st_size), file
        raise NotFoundError(f"no object {sha256} is in the cache", remedy="`stager cache ls` lists what is")

    @contextmanager
    def get(self, word: str) -> Iterator[tuple[Content, Iterator[bytes]]]:
        """What the key's file is, and its bytes, a block at a time."""
        content, file = self.open(word)
        with file:
            yield content, iter(lambda: file.read(BLOCK_BYTES), b"")

    def stored(self, entry: Entry) -> Content:
        """List what was put."""
        self.catalogue.put([CachedFile.of(entry, key_digest(entry.key), entry.stored_at)])
        return Content(_shown(entry.key), entry.object, entry.size)


def _own_key(word: str) -> str:
    key = _canonical(word)
    cause = ""
    if not key or len(key) > LONGEST_KEY or not key.isprintable():
        cause = f"1 to {LONGEST_KEY} printable characters are needed"
    elif key.startswith((RESULT, UNNAMED, SHA256)):
        cause = "that is how the keys of results, of unnamed objects and of imported ones begin"
    if cause:
        raise InputError(f"nothing can be put under the key {_shown(key)[:100]!r}", cause=cause)
    return key


def _canonical(word: str) -> str:
    with suppress(InputError):
        return parse_url(word).text
    return word


def _shown(key: str) -> str:
    with suppress(InputError):
        return parse_url(key).redacted
    return key

"""Files that are put, from bytes, a path, or a file open for reading."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from stager.cache.objects import unless_lost
from stager.cache.partial import Partial, create_unnamed
from stager.cache.tree import Tree
from stager.cache.writer import BLOCK_BYTES, ObjectWriter
from stager.errors import InputError
from stager.model.entries import Entry
from stager.model.keys import key_digest

if TYPE_CHECKING:
    from stager.cache.writer import Source

EntryOf = Callable[[str, int], Entry]
"""The entry of an object, given its digest and size."""


class Publishes(Protocol):
    """What is needed of the cache."""

    tree: Tree

    def publish(self, partial: Partial, sha256: str, size: int, *, restricted: bool = False) -> object:
        """See `FileCache.publish`."""
        ...

    def publish_bytes(
        self, key: str, data: bytes | memoryview, sha256: str, *, restricted: bool = False
    ) -> object:
        """See `FileCache.publish_bytes`."""
        ...

    def record(self, entry: Entry) -> None:
        """See `FileCache.record`."""
        ...


def put_file(
    cache: Publishes, key: str, source: Source, entry_of: EntryOf, *, restricted: bool = False
) -> Entry:
    """See `FileCache.put`."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = memoryview(source).cast("B")
        digest = sha256(data).hexdigest()

        def store() -> Entry:
            cache.publish_bytes(key, data, digest, restricted=restricted)
            entry = entry_of(digest, len(data))
            cache.record(entry)
            return entry

        return unless_lost(store)
    if isinstance(source, (str, os.PathLike)):
        try:
            with open(source, "rb", buffering=0) as file:
                return _copy(cache, key, cast("BinaryIO", file), entry_of, restricted=restricted)
        except OSError as error:
            raise InputError(f"can't read {source!s}", cause=error.strerror or str(error)) from error
    return _copy(cache, key, source, entry_of, restricted=restricted)


def file_writer(
    cache: Publishes, key: str, entry_of: EntryOf, *, restricted: bool = False
) -> tuple[ObjectWriter, list[Entry]]:
    """A file to write that becomes the key's when it is closed, and where its entry will be then."""
    made: list[Entry] = []

    def finish(partial: Partial, digest: str, size: int) -> None:
        cache.publish(partial, digest, size, restricted=restricted)
        entry = entry_of(digest, size)
        cache.record(entry)
        made.append(entry)

    return ObjectWriter(create_unnamed(cache.tree, key_digest(key)), finish), made


def _copy(cache: Publishes, key: str, source: BinaryIO, entry_of: EntryOf, *, restricted: bool) -> Entry:
    def copy() -> Entry:
        writer, made = file_writer(cache, key, entry_of, restricted=restricted)
        with writer:
            while block := source.read(BLOCK_BYTES):
                writer.write(block)
        return made[0]

    return unless_lost(copy, source)

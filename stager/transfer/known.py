"""What a file in the cache hashes to, in an algorithm that nobody asked for before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stager.cache.store import FileCache
from stager.model.digests import Digest
from stager.model.entries import Entry
from stager.transfer.checksums import hasher

BLOCK_BYTES = 1 << 20
"""Read at once."""


def with_digest(cache: FileCache, entry: Entry, expected: str, check: Callable[[], None]) -> Entry:
    """The entry, with the digest of its bytes in the algorithm of `expected`, which is then remembered.

    Args:
        cache: where they are.
        entry: of the file.
        expected: a digest in its one form, other than a SHA-256.
        check: called after each block; raises to give up.
    """
    algorithm = expected.partition(":")[0]
    if any(known.startswith(f"{algorithm}:") for known in entry.digests):
        return entry
    counting = hasher(algorithm)
    try:
        with cache.object_path(entry.object).open("rb", buffering=0) as file:
            buffer = memoryview(bytearray(BLOCK_BYTES))
            while count := file.readinto(buffer):
                counting.update(buffer[:count])
                check()
    except OSError:
        return entry  # it went meanwhile, or can't be read: then it is fetched
    entry = replace(entry, digests=(*entry.digests, str(Digest(algorithm, counting.hexdigest()))))
    cache.record(entry)
    return entry

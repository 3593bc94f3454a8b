"""What a test asks a guest to do with a cache; the guest calls it by name (see hosts.py).

One `FileCache` per root and guest, as in a server or worker that runs for long.
"""

from __future__ import annotations

from functools import cache

from stager.cache.store import FileCache
from stager.errors import NotFoundError, ObjectLostError


@cache
def _cache(root: str) -> FileCache:
    return FileCache(root)


def put(root: str, key: str, text: str) -> tuple[str, int]:
    """Publish `text` under `key`: digest and size of the object."""
    entry = _cache(root).put(key, text.encode())
    return entry.object, entry.size


def get(root: str, key: str) -> str | None:
    """What is read at the path that the cache names, with nothing between."""
    path = _cache(root).get(key)
    return None if path is None else path.read_text()


def lookup(root: str, key: str) -> str | None:
    """The object of the entry."""
    entry = _cache(root).lookup(key)
    return None if entry is None else entry.object


def contains(root: str, key: str) -> bool:
    return _cache(root).contains(key)


def read(root: str, key: str) -> str | None:
    """What is read through the cache."""
    try:
        with _cache(root).open(key) as file:
            return file.read().decode()
    except NotFoundError:
        return None


def has_object(root: str, sha256: str, size: int) -> bool:
    return _cache(root).has_object(sha256, size)


def pin(root: str, job: str, sha256: str, size: int) -> str | None:
    """What a job reads in its input; None if the object is lost."""
    try:
        return _cache(root).pin(job, "input", sha256, size).read_text()
    except ObjectLostError:
        return None

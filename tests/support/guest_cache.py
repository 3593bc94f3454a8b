"""What a test asks a guest to do with a cache; the guest calls it by name (see hosts.py).

One `FileCache` per root and guest, as in a server or worker that runs for long.
"""

from __future__ import annotations

import sys
from functools import cache
from hashlib import file_digest

from stager.cache.store import FileCache
from stager.errors import NotFoundError, ObjectLostError

TOKEN = 8
LENGTH = 4096


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


def digest(root: str, key: str) -> str:
    """SHA-256 of what is read."""
    with _cache(root).path(key).open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


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


def has_partial(root: str, key: str) -> bool:
    return _cache(root).has_partial(key)


def remove(root: str, key: str) -> bool:
    return _cache(root).remove(key)


def put_all(root: str, texts: dict[str, str]) -> None:
    """Publish each text under its key."""
    for key, text in texts.items():
        put(root, key, text)


def get_all(root: str, keys: list[str]) -> dict[str, str | None]:
    """See `get`."""
    return {key: get(root, key) for key in keys}


def read_often(root: str, key: str, count: int) -> list[str]:
    """Read the key's file and its entry so many times: all that was found that is not of one piece."""
    torn = []
    cache = _cache(root)
    for _ in range(count):
        with FileCache(root, remember=0).open(key) as file:
            data = file.read().decode()
        if data != data[:TOKEN] * (len(data) // TOKEN) or len(data) != LENGTH:
            torn.append(data[:100])
        if cache.lookup(key) is None:
            torn.append("no entry")
    return torn


def version(number: int) -> str:
    """A text that shows when it is torn."""
    return f"{number:0{TOKEN}d}" * (LENGTH // TOKEN)


def main() -> None:
    """``python -m tests.support.guest_cache ROOT new|same COUNT``: publish, and print what was acknowledged.

    ``new`` publishes under a new key each time, ``same`` replaces the file of one key.
    """
    root, mode, count = sys.argv[1:]
    for number in range(int(count)):
        key = f"k{number}" if mode == "new" else "k"
        put(root, key, version(number))
        sys.stdout.write(f"{key} {number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

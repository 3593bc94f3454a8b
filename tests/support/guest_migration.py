"""What a test asks a guest to do with a cache that is being moved to another layout; the guest calls it by name."""

from __future__ import annotations

import time
from functools import cache

from stager.cache.layout_file import read_layouts
from stager.cache.migrate import Migration
from stager.cache.store import FileCache

PATIENCE = 240.0


@cache
def _cache(root: str) -> FileCache:
    """One per root and guest, opened before the migration."""
    return FileCache(root)


def put_all(root: str, texts: dict[str, str]) -> None:
    """Publish each text under its key."""
    for key, text in texts.items():
        _cache(root).put(key, text.encode())


def get_all(root: str, keys: list[str]) -> dict[str, str | None]:
    """What is read at the paths that the cache names, with nothing between."""
    found = {}
    for key in keys:
        path = _cache(root).get(key)
        found[key] = None if path is None else path.read_text()
    return found


def migrate(root: str, shards: str, grace: float) -> dict[str, int]:
    """Move the cache; how many files of which kind were moved."""
    migration = Migration(root, shards, grace_seconds=grace)
    for _ in migration.run(time.sleep):
        pass
    return dict(migration.counts)


def read_until_moved(root: str, texts: dict[str, str], shards: str) -> tuple[int, list[str]]:
    """Read everything again and again until it has been moved; how often, and what was missed or wrong."""
    wrong: list[str] = []
    rounds = 0
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        moved = _is_moved(root, shards)
        for key, text in texts.items():
            path = _cache(root).get(key)
            entry = _cache(root).lookup(key)
            if path is None or entry is None:
                wrong.append(f"{key} was missed in round {rounds}")
            else:
                try:
                    if path.read_text() != text:
                        wrong.append(f"{key} is wrong in round {rounds}")
                except OSError as error:
                    wrong.append(f"{key} in round {rounds}: {error}")
                if _cache(root).pin("job", key, entry.object, entry.size).read_text() != text:
                    wrong.append(f"the input {key} is wrong in round {rounds}")
        rounds += 1
        if moved:
            return rounds, wrong
    return rounds, [*wrong, "it was never moved"]


def write_until_moved(root: str, shards: str) -> dict[str, str]:
    """Publish new files and replace old ones until the cache has been moved; what each key has in the end."""
    texts: dict[str, str] = {}
    number = 0
    end = time.monotonic() + PATIENCE
    while not _is_moved(root, shards) and time.monotonic() < end:
        key, text = f"new-{number % 50}", f"text {number}"
        _cache(root).put(key, text.encode())
        texts[key] = text
        number += 1
    return texts


def _is_moved(root: str, shards: str) -> bool:
    found = read_layouts(root)
    return found is not None and found[0].current.shards == shards and found[0].settled_at is not None

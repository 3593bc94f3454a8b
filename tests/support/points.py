"""What the tests of single HTTP points share: bodies of both sizes, and looks at what a fetch left."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random

from stager.cache.store import FileCache
from stager.model.fetches import FetchResult
from stager.transfer.tries import SMALL_BYTES

SMALL = Random(1).randbytes(50_000)
"""Held in memory while it is fetched."""
LARGE = Random(2).randbytes(3 * SMALL_BYTES + 12_345)
"""Goes through a partial file and the digest's thread."""
CUT = SMALL_BYTES + 100_000

Fetch = Callable[..., FetchResult]
"""Fetch a URL; see the fixture ``fetch``."""


def is_right(result: FetchResult, data: bytes) -> bool:
    """Whether it is these bytes, under their digest."""
    return (
        result.path.read_bytes() == data
        and result.sha256 == sha256(data).hexdigest()
        and result.size == len(data)
    )


def leftovers(cache: FileCache) -> list[Path]:
    """What a fetch left for the next one."""
    return [path for path in (cache.root / "partial").rglob("*") if path.is_file()]


def objects(cache: FileCache) -> list[Path]:
    """What was published."""
    return [path for path in (cache.root / "objects").rglob("*") if path.is_file()]

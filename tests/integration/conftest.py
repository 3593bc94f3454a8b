"""For the tests of HTTP points: a scripted origin, a cache, and a fetch by each driver."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.transfer.options import TransferOptions
from tests.support.drivers import DRIVERS, AnyFetcher, Driver
from tests.support.origin import Origin
from tests.support.points import Fetch

_numbers = itertools.count(1)
_REQUEST = ("refresh", "sha256", "digest", "mirrors", "size")


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


@pytest.fixture
def fetch(cache: FileCache, driver: Driver) -> Iterator[Fetch]:
    """Fetch a URL with a fetcher of its own options; what belongs to a request goes there."""
    made: list[AnyFetcher] = []

    def fetch(url: str, *, ca: str = "", **given: Any) -> FetchResult:
        asked = {name: given.pop(name) for name in _REQUEST if name in given}
        key = (ca, tuple(sorted(given.items())))
        fetcher = known.get(key)
        if fetcher is None:
            wanted = TransferOptions(**{"overlap_bytes": 0} | given)
            fetcher = known[key] = driver(cache, options=wanted, ca_bundle=ca, connect_timeout_seconds=5)
            made.append(fetcher)
        return fetcher.fetch(FetchOrder(f"f{next(_numbers)}", 1, FetchRequest(url, **asked)))

    known: dict[Any, AnyFetcher] = {}
    yield fetch
    for fetcher in made:
        fetcher.close()

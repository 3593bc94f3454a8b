"""The disk of the cache fails while a fetch writes to it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from stager.cache.space import LocalPromises, Space
from stager.cache.store import FileCache
from stager.errors import CacheError, CacheFullError, CacheIOError, CachePermissionError
from stager.model.fetches import FetchOrder, FetchRequest
from stager.transfer.buffers import BLOCK_BYTES
from stager.transfer.fetcher import Fetcher
from stager.transfer.http import HttpTransport
from tests.support.drivers import DRIVERS, AnyFetcher, Driver
from tests.support.origin import Origin, content
from tests.support.reach import LOOPBACK

DATA = Random(6).randbytes(3 * BLOCK_BYTES + 500_000)


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
def fetcher(cache: FileCache, driver: Driver) -> Iterator[AnyFetcher]:
    with closing(driver(cache)) as fetcher:
        yield fetcher


def order(url: str) -> FetchOrder:
    return FetchOrder("f", 1, FetchRequest(url))


def failing(call: Callable[..., int], number: int, after: int) -> Callable[..., int]:
    """`call`, but from its `after`-th time on it fails with errno `number`."""
    calls = 0

    def fail(*args: object) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(number, os.strerror(number))
        return call(*args)

    return fail


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, CacheFullError),
        (errno.EDQUOT, CacheFullError),
        (errno.EIO, CacheIOError),
        (errno.EROFS, CachePermissionError),
    ],
)
def test_a_write_that_fails_is_an_error_of_the_cache_that_names_url_cause_and_way_out(
    origin: Origin,
    fetcher: AnyFetcher,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[CacheError],
) -> None:
    url = origin.serve("/run.nxs", content(DATA))
    monkeypatch.setattr(os, "pwrite", failing(os.pwrite, number, after=1))
    with pytest.raises(kind) as caught:
        fetcher.fetch(order(url))
    text = str(caught.value)
    assert text.startswith(f"{url} can't be stored: can't write ")
    assert os.strerror(number) in text
    assert caught.value.remedy
    assert caught.value.details["url"] == url
    assert fetcher.cache.lookup(url) is None


def test_a_full_disk_keeps_what_was_written_and_the_next_try_goes_on(
    origin: Origin, fetcher: AnyFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = origin.serve("/run.nxs", content(DATA, etag='"1"'))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing(os.pwrite, errno.ENOSPC, after=1))
        with pytest.raises(CacheFullError) as caught:
            fetcher.fetch(order(url))
    assert caught.value.details["progressed"] is True
    result = fetcher.fetch(order(url))
    assert result.resumed_from > 0
    assert result.path.read_bytes() == DATA


def test_a_disk_that_stays_full_is_no_progress(
    origin: Origin, fetcher: AnyFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = origin.serve("/run.nxs", content(DATA, etag='"1"'))
    monkeypatch.setattr(os, "pwrite", failing(os.pwrite, errno.ENOSPC, after=1))
    with pytest.raises(CacheFullError):
        fetcher.fetch(order(url))
    with pytest.raises(CacheFullError) as caught:
        fetcher.fetch(order(url))
    assert "progressed" not in caught.value.details


def test_a_file_that_can_not_be_read_again_is_an_error(
    origin: Origin, fetcher: AnyFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = origin.serve("/run.nxs", content(DATA, etag='"1"', cut=2_000_000), content(DATA, etag='"1"'))
    with pytest.raises(Exception, match="came incomplete"):
        fetcher.fetch(order(url))
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", failing(os.preadv, errno.EIO, after=0))
        with pytest.raises(CacheIOError, match="can't read"):
            fetcher.fetch(order(url))
    assert fetcher.cache.lookup(url) is None
    assert fetcher.fetch(order(url)).path.read_bytes() == DATA


def test_a_small_body_that_can_not_be_kept_costs_nothing_but_a_new_try(
    origin: Origin, fetcher: AnyFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = DATA[:50_000]
    url = origin.serve("/run.nxs", content(small, etag='"1"', cut=10), content(small, etag='"1"'))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing(os.pwrite, errno.ENOSPC, after=0))
        with pytest.raises(Exception, match="came incomplete") as caught:
            fetcher.fetch(order(url))
    assert "progressed" not in caught.value.details  # type: ignore[attr-defined]
    assert fetcher.fetch(order(url)).path.read_bytes() == small


def test_a_file_that_is_larger_than_the_room_is_refused_before_its_first_byte_is_kept(
    tmp_path: Path, origin: Origin
) -> None:
    url = origin.serve("/large.dat", content(bytes(2_000_000), etag='"1"'))
    cache = FileCache(tmp_path / "cache")
    promises = LocalPromises()
    promises.promise("others", 1 << 60, 1 << 61)
    with closing(Fetcher(cache, HttpTransport(reach=LOOPBACK), space=Space(cache.root, promises))) as fetcher:
        with pytest.raises(CacheFullError, match="has no room for 2,000,000 bytes"):
            fetcher.fetch(FetchOrder("f", 1, FetchRequest(url)))
        assert not list((cache.root / "partial").rglob("*.part"))
        promises.withdraw("others")
        fetcher.fetch(FetchOrder("f", 2, FetchRequest(url)))
    assert promises.promise("next", 1, 1) is None  # what was promised to it is free again

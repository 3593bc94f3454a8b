"""A request that is sent while the file before it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.errors import CancelledError
from stager.model.fetches import FetchOrder, FetchRequest
from stager.transfer.fetcher import Fetcher
from stager.transfer.http import HttpTransport
from stager.transfer.limited import LimitedTransport
from tests.support.origin import Origin, content, raw, redirect
from tests.support.reach import LOOPBACK


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def fetcher(tmp_path: Path) -> Iterator[Fetcher]:
    with closing(
        Fetcher(FileCache(tmp_path / "cache"), LimitedTransport(HttpTransport(reach=LOOPBACK), 1))
    ) as fetcher:
        yield fetcher


def ordered(url: str) -> FetchOrder:
    return FetchOrder("f1", 1, FetchRequest(url))


def body(fetcher: Fetcher, url: str) -> bytes:
    return fetcher.fetch(ordered(url)).path.read_bytes()


def asked(origin: Origin) -> list[str]:
    return [seen.target for seen in origin.requests]


def test_the_next_file_is_asked_for_before_the_first_is_stored_and_over_the_same_connection(
    origin: Origin, fetcher: Fetcher
) -> None:
    first, second = origin.serve("/1", content(b"one")), origin.serve("/2", content(b"two"))
    stored: list[bool] = []

    def received() -> None:
        stored.append(first in fetcher.cache)
        fetcher.announce(ordered(second))

    fetcher.fetch(ordered(first), received=received)
    assert stored == [False]
    origin.wait_for("/2")
    assert body(fetcher, second) == b"two"
    assert asked(origin) == ["/1", "/2"]
    assert origin.connections == 1


def test_a_file_that_is_in_the_cache_is_not_asked_for(origin: Origin, fetcher: Fetcher) -> None:
    url = origin.serve("/1", content(b"one"))
    body(fetcher, url)
    fetcher.announce(ordered(url))
    assert body(fetcher, url) == b"one"
    assert asked(origin) == ["/1"]


def test_an_answer_that_breaks_before_it_begins_is_asked_for_again(origin: Origin, fetcher: Fetcher) -> None:
    body(fetcher, origin.serve("/1", content(b"one")))
    url = origin.serve("/2", raw(b"", end="reset"), content(b"two"))
    fetcher.announce(ordered(url))
    assert body(fetcher, url) == b"two"
    assert origin.connections == 2


def test_an_announced_redirect_is_followed(origin: Origin, fetcher: Fetcher) -> None:
    body(fetcher, origin.serve("/1", content(b"one")))
    origin.serve("/3", content(b"three"))
    url = origin.serve("/2", redirect("/3"))
    fetcher.announce(ordered(url))
    assert body(fetcher, url) == b"three"


def test_an_announced_fetch_that_is_cancelled_leaves_its_seat_to_others(
    origin: Origin, fetcher: Fetcher
) -> None:
    body(fetcher, origin.serve("/1", content(b"one")))
    url = origin.serve("/2", content(b"two"))
    fetcher.announce(ordered(url))
    with pytest.raises(CancelledError):
        fetcher.fetch(ordered(url), cancelled=lambda: True)
    assert body(fetcher, origin.serve("/3", content(b"three"))) == b"three"


def test_an_announcement_that_nobody_opens_is_closed_with_the_fetcher(origin: Origin, tmp_path: Path) -> None:
    with closing(Fetcher(FileCache(tmp_path / "other"), HttpTransport(reach=LOOPBACK))) as fetcher:
        body(fetcher, origin.serve("/1", content(b"one")))
        fetcher.announce(ordered(origin.serve("/2", content(b"two"))))

"""What an origin may cost: each limit ends a fetch with an error of its own, on both drivers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import (
    ConnectionFailedError,
    FetchTooLongError,
    FileTooLargeError,
    HeadTooLargeError,
    IncompleteError,
)
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.transfer.options import TransferOptions
from stager.transfer.tries import SMALL_BYTES
from tests.support.drivers import Driver
from tests.support.origin import Answer, Exchange, Origin, chunked, content, trickle

SMALL = Random(6).randbytes(50_000)
LARGE = Random(7).randbytes(3 * SMALL_BYTES)
LIMIT = 65_536
ENOUGH_SECONDS = 40.0
"""A fetch that takes longer than its limit by that much is not ended by it."""

Fetch = Callable[..., FetchResult]
_numbers = itertools.count(1)


@pytest.fixture
def limited(cache: FileCache, driver: Driver) -> Iterator[Callable[..., Fetch]]:
    """Makes what fetches within limits."""
    with ExitStack() as made:

        def make(max_head_bytes: int = LIMIT, **options: Any) -> Fetch:
            fetcher = driver(cache, options=TransferOptions(**options), max_head_bytes=max_head_bytes)
            made.callback(fetcher.close)

            def fetch(url: str) -> FetchResult:
                return fetcher.fetch(FetchOrder(f"f{next(_numbers)}", 1, FetchRequest(url)))

            return fetch

        yield make


def kept(cache: FileCache) -> list[Path]:
    """What is left of bodies."""
    return [
        path for name in ("partial", "objects") for path in (cache.root / name).rglob("*") if path.is_file()
    ]


# -- the head --------------------------------------------------------------------------------------------


def with_fields(count: int, size: int) -> Answer:
    fields = {f"X-{number:05}": "y" * (size - 11) for number in range(count)}
    return content(SMALL, headers=fields)


def endless_fields(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    line = b"X-Field: " + b"y" * 1000 + b"\r\n"
    while True:
        exchange.send(line * 50)


def endless_field(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nX-Field: ")
    while True:
        exchange.send(b"y" * 50_000)


def endless_interim_answers(exchange: Exchange) -> None:
    while True:
        exchange.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)


@pytest.mark.parametrize(
    "answer",
    [with_fields(1, LIMIT), with_fields(700, 100), endless_fields, endless_field, endless_interim_answers],
    ids=["one field", "many fields", "endless fields", "endless field", "interim answers"],
)
def test_a_head_that_is_too_large_is_refused(
    limited: Callable[..., Fetch], origin: Origin, cache: FileCache, answer: Answer
) -> None:
    url = origin.serve("/run.nxs", answer)
    began = time.monotonic()
    with pytest.raises(HeadTooLargeError, match="has more than 65,536 bytes") as caught:
        limited()(url)
    assert time.monotonic() - began < ENOUGH_SECONDS
    assert not caught.value.transient
    assert kept(cache) == []


def test_a_head_within_the_limit_is_read_and_the_limit_is_a_setting(
    limited: Callable[..., Fetch], origin: Origin
) -> None:
    url = origin.serve("/a", with_fields(600, 100))
    with pytest.raises(HeadTooLargeError, match="has more than 2,048 bytes"):
        limited(max_head_bytes=2048)(url)
    assert limited()(url).size == len(SMALL)
    url = origin.serve("/b", with_fields(10, 100))
    assert limited(max_head_bytes=2048)(url).size == len(SMALL)


@pytest.mark.parametrize("text", [b"HTTP/1.1 200 OK\r\nX-Field: ", b"HTTP/1.1 102 Processing\r\n\r\n"])
def test_a_head_that_comes_drop_by_drop_is_no_answer(
    limited: Callable[..., Fetch], origin: Origin, text: bytes
) -> None:
    def drops(exchange: Exchange) -> None:
        exchange.send(text)
        for drop in itertools.cycle([text] if text.endswith(b"\r\n\r\n") else [b"y"]):
            exchange.send(drop)
            threading.Event().wait(0.05)

    url = origin.serve("/run.nxs", drops)
    began = time.monotonic()
    with pytest.raises(ConnectionFailedError, match="no answer in 1 s"):
        limited(read_timeout_seconds=1.0)(url)
    assert time.monotonic() - began < 1.0 + ENOUGH_SECONDS


# -- the file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("how", [content, chunked])
def test_a_file_that_is_too_large_leaves_nothing_and_one_that_just_fits_is_taken(
    limited: Callable[..., Fetch], origin: Origin, cache: FileCache, data: bytes, how: Callable[..., Answer]
) -> None:
    url = origin.serve("/run.nxs", how(data, headers={"ETag": '"1"'}))
    with pytest.raises(FileTooLargeError, match=f"{len(data) - 1:,} bytes") as caught:
        limited(max_file_bytes=len(data) - 1)(url)
    assert not caught.value.transient
    assert caught.value.details["limit"] == len(data) - 1
    assert kept(cache) == []
    assert limited(max_file_bytes=len(data))(url).path.read_bytes() == data


def test_a_file_that_says_that_it_is_too_large_is_refused_before_its_first_byte(
    limited: Callable[..., Fetch], origin: Origin, cache: FileCache
) -> None:
    def claims(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": "1000000000000", "ETag": '"1"'})
        exchange.hold()

    with pytest.raises(FileTooLargeError, match="1,000,000,000,000 of at most 1,000,000 bytes") as caught:
        limited(max_file_bytes=1_000_000)(origin.serve("/run.nxs", claims))
    assert caught.value.details["size"] == 10**12
    assert kept(cache) == []


def test_a_body_without_end_is_cut_and_nothing_of_it_is_left(
    limited: Callable[..., Fetch], origin: Origin, cache: FileCache
) -> None:
    def endless(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "chunked", "ETag": '"1"'})
        while True:
            exchange.chunk(bytes(200_000))

    url = origin.serve("/run.nxs", endless)
    with pytest.raises(FileTooLargeError, match="more than 5,000,000 bytes"):
        limited(max_file_bytes=5_000_000)(url)
    assert kept(cache) == []
    assert origin.sent() < 5_000_000 + (32 << 20)  # and what the sockets hold


def test_a_range_can_not_be_used_to_go_beyond_the_limit(
    limited: Callable[..., Fetch], origin: Origin, cache: FileCache
) -> None:
    """Each part is small, and the whole was not known when the first one came."""

    def part(exchange: Exchange) -> None:
        start = int(exchange.request.headers.get("range", "bytes=0-")[6:-1])
        exchange.head(
            206,
            {
                "Content-Range": f"bytes {start}-{start + 999_999}/*",
                "Content-Length": "1000000",
                "ETag": '"1"',
            },
        )
        exchange.body(bytes(1_000_000))

    def first(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "chunked", "ETag": '"1"'})
        exchange.chunk(bytes(1_500_000))
        exchange.close()

    url = origin.serve("/run.nxs", first, part)
    fetch = limited(max_file_bytes=5_000_000)
    with pytest.raises(IncompleteError):
        fetch(url)
    with pytest.raises(FileTooLargeError):
        fetch(url)
    assert kept(cache) == []


# -- the time --------------------------------------------------------------------------------------------


def test_a_try_that_goes_on_and_on_ends_and_what_came_is_gone_on_from(
    limited: Callable[..., Fetch], origin: Origin
) -> None:
    url = origin.serve(
        "/run.nxs",
        trickle(LARGE, block=2000, seconds=0.02, headers={"ETag": '"1"'}),
        content(LARGE, etag='"1"'),
    )
    began = time.monotonic()
    with pytest.raises(FetchTooLongError, match="in 1 s, and no end") as caught:
        limited(max_fetch_seconds=1.0)(url)
    assert time.monotonic() - began < 1.0 + ENOUGH_SECONDS
    assert not caught.value.transient
    assert caught.value.details["progressed"]
    result = limited(max_fetch_seconds=60.0)(url)
    assert result.resumed_from > 0
    assert result.path.read_bytes() == LARGE


def test_an_answer_in_ever_more_parts_is_no_way_around_the_time(
    limited: Callable[..., Fetch], origin: Origin
) -> None:
    def part(exchange: Exchange) -> None:
        asked = exchange.request.headers.get("range")
        if asked is None:
            exchange.head(200, {"Content-Length": str(len(LARGE)), "ETag": '"1"'})
            exchange.body(LARGE[:1_200_000])
            exchange.close()
            return
        threading.Event().wait(0.05)
        at = int(asked[6:-1])
        exchange.head(
            206, {"Content-Range": f"bytes {at}-{at}/{len(LARGE)}", "Content-Length": "1", "ETag": '"1"'}
        )
        exchange.body(LARGE[at : at + 1])

    url = origin.serve("/run.nxs", part)
    with pytest.raises(IncompleteError):
        limited(max_fetch_seconds=60.0)(url)
    began = time.monotonic()
    with pytest.raises(FetchTooLongError):
        limited(max_fetch_seconds=1.0)(url)
    assert time.monotonic() - began < 1.0 + ENOUGH_SECONDS

"""Several streams for one large file (point 37), on both drivers, from an origin whose every connection is slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import CancelledError, FetchTooLongError, IncompleteError, OriginBusyError
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.transfer import account, segments, streams
from stager.transfer.account import ProgressReport
from stager.transfer.options import TransferOptions
from tests.support.drivers import DRIVERS, AnyFetcher, Driver
from tests.support.origin import Answer, Counted, Exchange, Origin, content, status
from tests.support.until import until

DATA = Random(37).randbytes(6_000_000)
PAUSE = 0.05
"""Seconds between two blocks of 262,144 bytes: 5 MB/s on each connection."""
TAG = '"1"'
MOST = 4


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "READING_SECONDS", 0.1)
    monkeypatch.setattr(streams, "SETTLING_SECONDS", 0.3)
    monkeypatch.setattr(streams, "WORTH_SECONDS", 0.1)
    monkeypatch.setattr(streams, "LEAST_BLOCK", 200_000)
    monkeypatch.setattr(segments, "SAVE_SECONDS", 0.1)
    monkeypatch.setattr(streams, "SPLIT_BYTES", 500_000)


@pytest.fixture(params=DRIVERS)
def fetcher(request: pytest.FixtureRequest, cache: FileCache) -> Iterator[AnyFetcher]:
    options = TransferOptions(segments=MOST, overlap_bytes=0)
    with closing(DRIVERS[request.param](cache, options=options)) as fetcher:
        yield fetcher


def fetch(fetcher: AnyFetcher, url: str, generation: int = 1, **options: Any) -> FetchResult:
    result = fetcher.fetch(FetchOrder("f", generation, FetchRequest(url)), **options)
    assert result.path.read_bytes() == DATA
    return result


def slow(data: bytes = DATA, *, tag: str | None = TAG, **options: Any) -> Answer:
    return content(data, etag=tag, pause=PAUSE, **options)


def asked(origin: Origin) -> Callable[[], bool]:
    """Whether a second stream was begun: the first one is held back for that, however slow this machine is."""
    return lambda: len(origin.seen()) >= 2


def together(count: int) -> Counted:
    """No stream gets to its end before so many are at it at once."""
    counted: list[Counted] = []
    counted.append(Counted(slow(until=lambda: counted[0].most >= count)))
    return counted[0]


def leftovers(cache: FileCache) -> list[Path]:
    return [path for path in (cache.root / "partial").rglob("*") if path.is_file()]


def ranges(origin: Origin) -> list[str]:
    return [seen.headers["range"] for seen in origin.seen() if "range" in seen.headers]


def test_point_37_a_slow_file_is_brought_by_several_streams_and_hardly_a_byte_twice(
    fetcher: AnyFetcher, origin: Origin, cache: FileCache
) -> None:
    answer = together(2)
    url = origin.serve("/run.nxs", answer)
    result = fetch(fetcher, url)
    assert 2 <= answer.most <= MOST + 1  # it takes the origin a moment to see that a connection was closed
    assert {seen.headers["if-range"] for seen in origin.seen()[1:]} == {TAG}
    assert len(ranges(origin)) == len(set(ranges(origin)))
    assert result.received <= len(DATA) + 10
    assert leftovers(cache) == []


def test_point_37_a_fast_file_is_left_to_one_stream(
    fetcher: AnyFetcher, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FAST_BYTES_PER_SECOND", 1.0)  # whatever the machine makes of it
    fetch(fetcher, origin.serve("/run.nxs", slow()))
    assert len(origin.seen()) == 1


@pytest.mark.parametrize(
    "answer",
    [
        slow(tag=None),
        slow(tag='W/"1"'),
        slow(headers={"Accept-Ranges": "none"}),
        slow(headers={"Content-Encoding": "br"}),
    ],
    ids=["no tag", "weak tag", "no ranges", "a coding"],
)
def test_point_37_without_a_strong_tag_of_the_plain_bytes_there_is_one_stream(
    fetcher: AnyFetcher, origin: Origin, answer: Answer
) -> None:
    fetch(fetcher, origin.serve("/run.nxs", answer))
    assert len(origin.seen()) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        content(DATA, etag=TAG, ranges=False, pause=PAUSE),
        status(412),
        status(429),
        status(503),
        content(DATA[::-1], etag='"2"', pause=PAUSE),
    ],
    ids=["the whole", "412", "429", "503", "other bytes"],
)
def test_point_37_an_origin_that_does_not_go_along_is_read_by_one_stream(
    fetcher: AnyFetcher, origin: Origin, refusal: Answer
) -> None:
    first = True

    def one_at_a_time(exchange: Exchange) -> None:
        nonlocal first
        whole, first = first, False
        (slow() if whole or exchange.request.headers["range"].endswith("-") else refusal)(exchange)

    url = origin.serve("/run.nxs", one_at_a_time)
    fetch(fetcher, url)
    assert len(origin.seen()) <= MOST + 2, "it was asked again and again"


def test_point_37_a_file_that_changes_under_the_streams_is_never_a_mix(
    fetcher: AnyFetcher, origin: Origin
) -> None:
    old = Random(1).randbytes(len(DATA))
    changed = threading.Event()

    def changing(exchange: Exchange) -> None:
        if "range" in exchange.request.headers:
            changed.set()
        (slow(DATA, tag='"2"') if changed.is_set() else slow(old, cut=4_000_000))(exchange)

    url = origin.serve("/run.nxs", changing)
    try:
        fetch(fetcher, url)
    except IncompleteError:
        fetch(fetcher, url, 2)


def test_point_37_a_stream_that_breaks_ends_alone(fetcher: AnyFetcher, origin: Origin) -> None:
    broken = 0

    def breaks_once(exchange: Exchange) -> None:
        nonlocal broken
        if "range" in exchange.request.headers and not broken:
            broken += 1
            slow(cut=100_000)(exchange)
        else:
            slow(until=asked(origin))(exchange)

    url = origin.serve("/run.nxs", breaks_once)
    fetch(fetcher, url)
    assert broken == 1


def test_point_37_the_first_stream_may_break_too(fetcher: AnyFetcher, origin: Origin) -> None:
    def breaks_the_first(exchange: Exchange) -> None:
        slow(cut=None if "range" in exchange.request.headers else 2_500_000)(exchange)

    url = origin.serve("/run.nxs", breaks_the_first)
    assert fetch(fetcher, url).received <= len(DATA) + 10


def breaks_all() -> Callable[[Exchange], None]:
    """Every connection ends early."""
    seen = 0

    def answer(exchange: Exchange) -> None:
        nonlocal seen
        seen += 1
        slow(cut=1_000_000 if seen == 1 else 150_000)(exchange)

    return answer


def test_point_37_what_all_streams_left_is_gone_on_with_by_several(
    fetcher: AnyFetcher, origin: Origin, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", breaks_all())
    with pytest.raises(IncompleteError) as caught:
        fetch(fetcher, url)
    assert caught.value.details["progressed"] is True
    origin.serve("/run.nxs", slow())
    result = fetch(fetcher, url, 2)
    assert result.resumed_from > 0
    assert result.received <= len(DATA) - result.resumed_from
    assert leftovers(cache) == []


def test_an_origin_that_is_busy_costs_nothing_of_what_several_streams_left(
    fetcher: AnyFetcher, origin: Origin
) -> None:
    url = origin.serve("/run.nxs", breaks_all())
    with pytest.raises(IncompleteError):
        fetch(fetcher, url)
    origin.serve("/run.nxs", status(503))
    with pytest.raises(OriginBusyError):
        fetch(fetcher, url, 2)
    origin.serve("/run.nxs", slow())
    result = fetch(fetcher, url, 3)
    assert result.resumed_from > 0
    assert result.received < len(DATA)


def test_several_streams_are_cancelled_at_once_and_their_bytes_kept(
    fetcher: AnyFetcher, origin: Origin
) -> None:
    answer = together(3)
    url = origin.serve("/run.nxs", answer)
    with pytest.raises(CancelledError) as caught:
        fetch(fetcher, url, cancelled=lambda: answer.most >= 3)
    assert caught.value.details["progressed"] is True
    until(lambda: not [one for one in threading.enumerate() if one.name == "stager-beside"], "they end")
    origin.serve("/run.nxs", slow())
    result = fetch(fetcher, url, 2)
    assert result.received < len(DATA)


def test_progress_of_all_streams_is_told_and_never_goes_back(
    fetcher: AnyFetcher, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "REPORT_SECONDS", 0.0)
    told: list[int] = []

    def progress(received: int, total: int | None, resumed_from: int) -> None:
        assert (total, resumed_from) == (len(DATA), 0)
        told.append(received)

    report: ProgressReport = progress
    fetch(fetcher, origin.serve("/run.nxs", slow()), progress=report)
    assert told == sorted(told)
    assert told[-1] > len(DATA) // 2


def test_streams_that_drip_while_the_first_one_waits_for_them_hold_no_worker_past_the_limit(
    driver: Driver, cache: FileCache, origin: Origin
) -> None:
    """Each is fast enough for the slowest speed that is allowed, and would take hours."""
    first = slow(until=asked(origin))

    def answer(exchange: Exchange) -> None:
        asked = exchange.request.headers.get("range")
        if asked is None:
            first(exchange)
            return
        start, stop = (int(part) for part in asked.removeprefix("bytes=").split("-"))
        exchange.head(
            206,
            {
                "Content-Range": f"bytes {start}-{stop}/{len(DATA)}",
                "Content-Length": str(stop + 1 - start),
                "ETag": TAG,
            },
        )
        for at in range(start, stop + 1, 20):
            exchange.body(DATA[at : min(at + 20, stop + 1)])
            threading.Event().wait(0.05)

    url = origin.serve("/run.nxs", answer)
    options = TransferOptions(segments=MOST, overlap_bytes=0, max_fetch_seconds=5.0)
    with closing(driver(cache, options=options)) as limited:
        began = time.monotonic()
        with pytest.raises(FetchTooLongError):
            limited.fetch(FetchOrder("f", 1, FetchRequest(url)))
        assert time.monotonic() - began < 60.0
    assert ranges(origin)
    assert leftovers(cache) != []  # what came is gone on from


def test_an_origin_that_is_slow_to_answer_each_range_is_not_silent(
    driver: Driver, cache: FileCache, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waits for the heads of many parts add up to more than one may take."""
    monkeypatch.setattr(streams, "MOST_BLOCK", streams.LEAST_BLOCK)

    def answer(exchange: Exchange) -> None:
        if "range" in exchange.request.headers:
            threading.Event().wait(0.3)
        slow(until=asked(origin))(exchange)

    url = origin.serve("/run.nxs", answer)
    options = TransferOptions(segments=2, overlap_bytes=0, read_timeout_seconds=2.5)
    with closing(driver(cache, options=options)) as patient:
        fetch(patient, url)
    assert len(ranges(origin)) > 1

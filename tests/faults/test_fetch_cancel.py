"""A fetch is cancelled, or its origin stalls, wherever it is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from stager.cache.store import FileCache
from stager.errors import CancelledError, ConnectionFailedError
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.transfer.account import ProgressReport
from stager.transfer.buffers import BLOCK_BYTES
from stager.transfer.options import TransferOptions
from tests.support.drivers import DRIVERS, AnyFetcher, Driver, on_threads
from tests.support.origin import OVERLAP, Exchange, Origin, chunked, content, silence

DATA = Random(7).randbytes(3 * BLOCK_BYTES + 500_000)
PROMPT = 20.0
"""Seconds within which a cancel is heard: one, and half of one for a busy machine."""


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


@pytest.fixture
def fetcher(tmp_path: Path, driver: Driver) -> Iterator[AnyFetcher]:
    options = TransferOptions(segments=1)  # by one stream, however slow this machine is
    with closing(
        driver(FileCache(tmp_path / "cache"), options=options, connect_timeout_seconds=30)
    ) as fetcher:
        yield fetcher


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def order(url: str) -> FetchOrder:
    return FetchOrder("f", 1, FetchRequest(url))


def cancel_when(
    fetcher: AnyFetcher, url: str, ready: Callable[[], object], progress: ProgressReport | None = None
) -> CancelledError:
    """Cancel the fetch of `url` once `ready` returns; how it ended, promptly."""
    cancelled = threading.Event()
    caught: list[CancelledError] = []

    def fetch() -> None:
        with pytest.raises(CancelledError) as error:
            fetcher.fetch(order(url), progress=progress, cancelled=cancelled.is_set)
        caught.append(error.value)

    thread = threading.Thread(target=fetch)
    thread.start()
    ready()
    began = time.monotonic()
    cancelled.set()
    thread.join(60)
    assert time.monotonic() - began < PROMPT
    return caught[0]


def test_a_cancel_before_the_start_asks_nobody(fetcher: AnyFetcher, origin: Origin) -> None:
    url = origin.serve("/run.nxs", content(DATA))
    with pytest.raises(CancelledError, match="was not fetched"):
        fetcher.fetch(order(url), cancelled=lambda: True)
    assert origin.seen() == []


def test_a_cancel_is_heard_while_the_origin_does_not_answer(fetcher: AnyFetcher, origin: Origin) -> None:
    url = origin.serve("/run.nxs", silence)
    error = cancel_when(fetcher, url, lambda: origin.wait_for("/run.nxs"))
    assert error.details["url"] == url


@pytest.mark.parametrize("size", [500_000, len(DATA)], ids=["small", "large"])
def test_a_cancel_is_heard_in_a_stalled_body_whose_bytes_are_kept(
    fetcher: AnyFetcher, origin: Origin, size: int
) -> None:
    data = DATA[:size]
    cut = size // 2
    url = origin.serve("/run.nxs", content(data, etag='"1"', cut=cut, end="hold"), content(data, etag='"1"'))
    all_there = threading.Event()

    def progress(received: int, total: int | None, resumed_from: int) -> None:
        assert (total, resumed_from) == (size, 0)
        if received == cut:
            all_there.set()

    error = cancel_when(fetcher, url, lambda: all_there.wait(60), progress)
    assert error.details["progressed"] is True
    result = fetcher.fetch(order(url))
    assert result.path.read_bytes() == data
    assert result.resumed_from == cut
    assert origin.sent() == size + OVERLAP


def test_a_cancel_is_heard_in_stalled_chunks(fetcher: AnyFetcher, origin: Origin) -> None:
    def stall(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "chunked"})
        exchange.chunk(b"x" * 1000)
        exchange.hold()

    url = origin.serve("/run.nxs", stall)
    cancel_when(fetcher, url, lambda: origin.wait_for("/run.nxs"))


def test_a_cancel_is_heard_while_nobody_accepts_the_connection(fetcher: AnyFetcher) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
        address = deaf.getsockname()
        waiting = []
        for _ in range(3):  # the queue is full, and further ones get no answer
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            waiting.append(filler)
        error = cancel_when(fetcher, f"http://127.0.0.1:{address[1]}/run.nxs", threading.Event)
        assert error.details["url"] == f"http://127.0.0.1:{address[1]}/run.nxs"
        for filler in waiting:
            filler.close()


def test_a_cancel_is_heard_in_a_tls_handshake_that_goes_nowhere(fetcher: AnyFetcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        accepted: list[socket.socket] = []

        def accept() -> None:
            accepted.append(deaf.accept()[0])

        cancel_when(fetcher, f"https://127.0.0.1:{deaf.getsockname()[1]}/run.nxs", accept)
        accepted[0].close()


def test_a_connection_that_nobody_accepts_is_given_up_in_time(tmp_path: Path, driver: Driver) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as deaf,
        closing(driver(FileCache(tmp_path), connect_timeout_seconds=0.3)) as fetcher,
        pytest.raises(ConnectionFailedError, match=r"not connected within 0\.3 s|does not answer"),
    ):
        fetcher.fetch(order(f"https://127.0.0.1:{deaf.getsockname()[1]}/run.nxs"))


@pytest.mark.parametrize("driver", [on_threads])  # an interrupt comes to the main thread
def test_an_interrupt_keeps_the_bytes_too(fetcher: AnyFetcher, origin: Origin) -> None:
    url = origin.serve("/run.nxs", content(DATA, etag='"1"'))

    asked = iter(range(100))

    def interrupt() -> bool:
        if next(asked) == 3:  # at the start, then after each block
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        fetcher.fetch(order(url), cancelled=interrupt)
    assert fetcher.fetch(order(url)).resumed_from > 0


def test_an_idle_connection_that_the_origin_closes_is_replaced(fetcher: AnyFetcher, origin: Origin) -> None:
    def hang_up(exchange: Exchange) -> None:
        exchange.close()

    fetcher.fetch(order(origin.serve("/a", content(b"a"))))
    url = origin.serve("/b", hang_up, content(b"b"))
    assert fetcher.fetch(order(url)).path.read_bytes() == b"b"
    assert [seen.connection for seen in origin.seen()] == [1, 1, 2]


def test_a_fresh_connection_that_is_closed_without_an_answer_is_an_error(
    fetcher: AnyFetcher, origin: Origin
) -> None:
    url = origin.serve("/b", Exchange.close)
    with pytest.raises(ConnectionFailedError, match="without an answer"):
        fetcher.fetch(order(url))
    assert len(origin.seen()) == 1


def test_progress_is_reported_at_most_ten_times_per_second(fetcher: AnyFetcher, origin: Origin) -> None:
    seen: list[tuple[float, int, int | None, int]] = []

    def report(received: int, total: int | None, resumed_from: int) -> None:
        seen.append((time.monotonic(), received, total, resumed_from))

    def drip(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(len(DATA))})
        pause = threading.Event()
        for start in range(0, len(DATA), 100_000):
            exchange.body(DATA[start : start + 100_000])
            pause.wait(0.02)

    fetcher.fetch(order(origin.serve("/run.nxs", drip)), progress=report)
    assert seen
    times = [moment for moment, *_ in seen]
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(times))
    received = [count for _, count, *_ in seen]
    assert received == sorted(received)
    assert {(total, start) for _, _, total, start in seen} == {(len(DATA), 0)}


def test_a_large_body_in_chunks_is_right(fetcher: AnyFetcher, origin: Origin) -> None:
    url = origin.serve("/run.nxs", chunked(DATA, size=8192))
    assert fetcher.fetch(order(url)).path.read_bytes() == DATA


def leftovers(fetcher: AnyFetcher) -> list[str]:
    return [path.name for path in (fetcher.cache.root / "partial").rglob("*") if path.is_file()]


@pytest.mark.parametrize("first_to_end", ["earlier", "later"])
def test_a_try_that_a_later_one_has_overtaken_leaves_no_bytes_that_nobody_goes_on_with(
    fetcher: AnyFetcher, origin: Origin, first_to_end: str
) -> None:
    gate = threading.Event()

    def later(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(len(DATA)), "Etag": '"1"'})
        exchange.body(DATA[:-1000])
        assert gate.wait(60)
        exchange.body(DATA[-1000:])

    half = content(DATA, etag='"1"', cut=len(DATA) // 2, end="hold")
    url = origin.serve("/run.nxs", half, later)
    with ThreadPoolExecutor(1) as pool:
        try:
            overtaking: list[Future[FetchResult]] = []
            arrived = [threading.Event(), threading.Event()]

            def overtake() -> None:
                """The server took the earlier try for lost, and gave its fetch out anew."""
                assert arrived[0].wait(60)
                new = FetchOrder("f", 2, FetchRequest(url))
                overtaking.append(pool.submit(fetcher.fetch, new, progress=report(arrived[1])))
                assert arrived[1].wait(60)
                if first_to_end == "later":
                    gate.set()
                    overtaking[0].result(60)

            cancel_when(fetcher, url, overtake, report(arrived[0]))
        finally:
            gate.set()
    assert overtaking[0].result().path.read_bytes() == DATA
    assert leftovers(fetcher) == []


def report(arrived: threading.Event) -> ProgressReport:
    def progress(received: int, _total: int | None, _resumed_from: int) -> None:
        if received > 0:
            arrived.set()

    return progress

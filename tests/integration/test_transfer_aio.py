"""What only the driver in the event loop can get wrong: one thread waits for everybody."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import pytest

from stager.cache.store import FileCache
from stager.errors import CancelledError, ConnectionFailedError, ProtocolError, SettingsError, StagerError
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.transfer import aio_connect
from stager.transfer.buffers import BLOCK_BYTES
from stager.transfer.digest import BUFFERS
from stager.transfer.options import TransferOptions
from stager.transfer.reach import Place, Reach
from stager.wiring.here import aio_farm
from tests.support.drivers import LoopFetcher
from tests.support.farms import Ear, cache_of, ordered, settings_for
from tests.support.origin import Exchange, Origin, content, silence
from tests.support.reach import THIS_MACHINE

LARGE = Random(31).randbytes(3_000_000)
PATIENCE = 60.0


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


@pytest.fixture
def fetcher(cache: FileCache) -> Iterator[LoopFetcher]:
    with closing(LoopFetcher(cache, connections=2)) as fetcher:
        yield fetcher


def order(url: str) -> FetchOrder:
    return FetchOrder("f", 1, FetchRequest(url))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class StuckDisk:
    """`os.pwrite` that does not return, for the file of one key."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        self.stuck = threading.Event()
        self._real = os.pwrite
        self._chosen: int | None = None
        monkeypatch.setattr(os, "pwrite", self._pwrite)

    def _pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        if self._chosen is None:
            self._chosen = fd  # the first to write
        if fd == self._chosen:
            self.stuck.set()
            assert self.free.wait(PATIENCE)
        return self._real(fd, data, offset)


def test_a_disk_that_is_stuck_with_one_file_delays_no_other(
    origin: Origin, fetcher: LoopFetcher, beside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = StuckDisk(monkeypatch)
    with Origin() as other:
        slow = beside.submit(fetcher.fetch, order(origin.serve("/slow", content(LARGE))))
        assert disk.stuck.wait(PATIENCE)
        for number in range(20):
            data = LARGE if number % 5 == 0 else b"small %d" % number
            assert fetcher.fetch(order(other.serve(f"/{number}", content(data)))).size == len(data)
        assert not slow.done()
        disk.free.set()
        assert slow.result(PATIENCE).path.read_bytes() == LARGE


def test_a_disk_that_is_stuck_stops_the_reading_so_that_memory_is_bounded(
    origin: Origin, fetcher: LoopFetcher, beside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = StuckDisk(monkeypatch)
    total = 200_000_000
    piece = bytes(1_000_000)

    def endless(exchange: Exchange) -> None:
        exchange.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        exchange.head(200, {"Content-Length": str(total), "ETag": '"1"'})
        for _ in range(total // len(piece)):
            exchange.body(piece)

    stop = threading.Event()
    url = origin.serve("/run.nxs", endless)
    future: Future[FetchResult] = beside.submit(fetcher.fetch, order(url), cancelled=stop.is_set)
    assert disk.stuck.wait(PATIENCE)
    sent = -1
    while sent != origin.sent():  # it has come to rest
        sent = origin.sent()
        time.sleep(0.5)
    assert sent < (BUFFERS + 2) * BLOCK_BYTES + 16_000_000  # the last: what the kernel may hold
    stop.set()
    disk.free.set()
    with pytest.raises(CancelledError):
        future.result(PATIENCE)


def test_one_origin_has_no_more_connections_than_seats_and_waiting_for_one_is_no_silence(
    origin: Origin, cache: FileCache, beside: ThreadPoolExecutor
) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def answer(exchange: Exchange) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.3)
        with lock:
            running -= 1
        content(b"data")(exchange)

    options = TransferOptions(read_timeout_seconds=2.0)  # all together they wait longer
    with closing(LoopFetcher(cache, options=options, connections=2)) as fetcher:
        urls = [origin.serve(f"/{number}", answer) for number in range(20)]
        futures = [beside.submit(fetcher.fetch, order(url)) for url in urls]
        assert [future.result(PATIENCE).size for future in futures] == [4] * 20
    assert most == 2
    assert origin.connections == 2


def test_a_cancel_is_heard_while_it_waits_for_a_seat_and_the_seat_goes_to_another(
    origin: Origin, cache: FileCache, beside: ThreadPoolExecutor
) -> None:
    with closing(LoopFetcher(cache, connections=1)) as fetcher, ExitStack() as held:
        first, second = threading.Event(), threading.Event()
        held.callback(first.set)
        holding = beside.submit(fetcher.fetch, order(origin.serve("/held", silence)), cancelled=first.is_set)
        origin.wait_for("/held")
        url = origin.serve("/next", content(b"next"))
        waiting = beside.submit(fetcher.fetch, order(url), cancelled=second.is_set)
        third = beside.submit(fetcher.fetch, order(origin.serve("/third", content(b"third"))))
        second.set()
        assert isinstance(waiting.exception(PATIENCE), CancelledError)
        assert not third.done()
        first.set()
        assert isinstance(holding.exception(PATIENCE), CancelledError)
        assert third.result(PATIENCE).size == 5
    assert origin.seen("/next") == []


@pytest.mark.parametrize(
    "late", [b"nonsense\r\n", b"5\r\nhelloX\r\n", b"0\r\nnonsense\r\n\r\n"], ids=["size", "data", "trailer"]
)
def test_chunks_that_break_in_the_middle_of_a_body_are_noticed_at_once(
    origin: Origin, fetcher: LoopFetcher, late: bytes
) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "chunked"})
        exchange.chunk(LARGE)
        time.sleep(0.2)  # so that the head is read before
        exchange.send(late)
        exchange.hold()

    began = time.monotonic()
    with pytest.raises(ProtocolError, match="not proper HTTP"):
        fetcher.fetch(order(origin.serve("/run.nxs", answer)))
    assert time.monotonic() - began < 40  # and not after a minute of silence


def test_a_transfer_coding_that_nobody_asked_for_is_refused(origin: Origin, fetcher: LoopFetcher) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "gzip, chunked"})
        exchange.send(b"0\r\n\r\n")

    with pytest.raises(ProtocolError, match="'gzip, chunked' was not asked for"):
        fetcher.fetch(order(origin.serve("/run.nxs", answer)))


def test_a_host_that_does_not_exist_is_no_connection(fetcher: LoopFetcher) -> None:
    with pytest.raises(ConnectionFailedError, match="can't be resolved"):
        fetcher.fetch(order("http://nowhere.invalid/run.nxs"))


@pytest.mark.parametrize("target", ["/a%20b;[x]?q=a+b%2F&c=%C3%A9", "//double//slash", "/a+b/~c/@d"])
def test_the_target_goes_out_as_it_is_written_in_the_url(
    origin: Origin, fetcher: LoopFetcher, target: str
) -> None:
    request = FetchRequest(origin.url(target))
    wanted = request.url.removeprefix(origin.base)
    origin.serve(wanted, content(b"data"))
    assert fetcher.fetch(FetchOrder("f", 1, request)).size == 4
    assert origin.seen()[0].target == wanted


def test_a_tag_with_bytes_beyond_ascii_comes_back_as_it_was_sent(
    origin: Origin, fetcher: LoopFetcher
) -> None:
    tag = '"vers\u00e3o"'.encode().decode("latin-1")
    url = origin.serve("/run.nxs", content(b"data", etag=tag))
    fetcher.fetch(order(url))
    again = fetcher.fetch(FetchOrder("f", 2, FetchRequest(url, refresh=True)))
    assert again.cached
    assert origin.seen()[1].headers["if-none-match"] == tag


def test_sixty_silent_transfers_cost_no_processor_time(cache: FileCache, origin: Origin) -> None:
    stop = threading.Event()
    with closing(LoopFetcher(cache, connections=64, threads=64)) as fetcher:
        urls = [
            origin.serve(f"/{n}", content(b"x" * 1000, etag='"1"', cut=500, end="hold")) for n in range(60)
        ]
        attempts = [fetcher.begin(order(url), cancelled=stop.is_set) for url in urls]
        for url in urls:
            origin.wait_for(url.removeprefix(origin.base))
        spent: list[float] = []
        while len(spent) < 10 and not any(one < 0.2 for one in spent):  # at first what came is taken in
            before = time.process_time()
            time.sleep(2)
            spent.append(time.process_time() - before)
        stop.set()
        for attempt in attempts:
            with pytest.raises(CancelledError):
                attempt.result()
    assert min(spent) < 0.2


def test_an_address_that_does_not_answer_does_not_keep_the_next_one_of_its_host_waiting(
    cache: FileCache, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[asyncio.Task[socket.socket] | None] = []
    real = aio_connect._socket_to

    async def socket_to(place: Place) -> socket.socket:
        if place.address[0] == "127.0.0.2":
            dropped.append(asyncio.current_task())
            await asyncio.Event().wait()
        return await real(place)

    def names(_host: str, port: int) -> list[Place]:
        return [Place(socket.AF_INET, (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(aio_connect, "_socket_to", socket_to)
    origin.serve("/run.nxs", content(b"data"))
    reach = Reach(THIS_MACHINE, names)
    with closing(LoopFetcher(cache, reach=reach, connect_timeout_seconds=PATIENCE)) as fetcher:
        assert fetcher.fetch(order(f"http://origin.test:{origin.port}/run.nxs")).size == 4
        (task,) = dropped
        assert task is not None
        until(task.cancelled)


def test_a_bundle_that_can_not_be_read_fails_the_fetch_and_not_the_farm(
    tmp_path: Path, origin: Origin
) -> None:
    ear = Ear()
    settings = settings_for(tmp_path, ca_bundle="/nonexistent.pem")
    with closing(aio_farm(settings, cache_of(tmp_path), ear)) as farm:
        farm.start(ordered("f1", "https://127.0.0.1:1/run.nxs"))
        assert type(ear.failed("f1").error) is SettingsError
        farm.start(ordered("f2", origin.serve("/run.nxs", content(b"data"))))
        ear.ready("f2")


def test_a_name_resolution_that_hangs_is_given_up_in_time(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        free.wait(PATIENCE)
        return []

    with closing(LoopFetcher(cache, connect_timeout_seconds=0.3)) as fetcher:
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        try:
            with pytest.raises(StagerError, match=r"not connected within 0\.3 s"):
                fetcher.fetch(order("http://origin.test/run.nxs"))
        finally:
            free.set()

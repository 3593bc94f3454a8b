"""One fetcher, many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from stager.cache.store import FileCache
from stager.errors import StagerError
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.transfer.buffers import BLOCK_BYTES
from stager.transfer.tries import SMALL_BYTES
from tests.support.drivers import DRIVERS, AnyFetcher, Driver
from tests.support.origin import Origin, content, redirect, status

THREADS = 8
LARGE = Random(9).randbytes(BLOCK_BYTES + 5)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


@pytest.fixture
def fetcher(tmp_path: Path, driver: Driver) -> Iterator[AnyFetcher]:
    with closing(driver(FileCache(tmp_path / "cache"), connections=THREADS)) as fetcher:
        yield fetcher


def in_threads(work: Callable[[int], object], count: int) -> list[object]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(count)))


def test_files_of_all_sizes_at_once_are_each_right_and_share_few_connections(
    origin: Origin, fetcher: AnyFetcher
) -> None:
    sizes = [0, 1, 4096, 100_000, SMALL_BYTES, SMALL_BYTES + 1, len(LARGE)]

    def body(number: int) -> bytes:
        size = sizes[number % len(sizes)]
        return (b"%08d" % number + LARGE)[:size]

    for number in range(84):
        origin.serve(f"/{number}", content(body(number), etag='"1"'))

    def fetch(number: int) -> None:
        order = FetchOrder(str(number), 1, FetchRequest(origin.url(f"/{number}")))
        assert fetcher.fetch(order).path.read_bytes() == body(number)

    in_threads(fetch, 84)
    assert origin.connections <= THREADS
    assert origin.sent() == sum(len(body(number)) for number in range(84))


def test_one_url_at_once_from_many_threads_is_right_in_all(origin: Origin, fetcher: AnyFetcher) -> None:
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"'))
    together = threading.Barrier(THREADS)

    def fetch(number: int) -> FetchResult:
        together.wait(60)
        return fetcher.fetch(FetchOrder(str(number), 1, FetchRequest(url, refresh=True)))

    paths = {result.path for result in in_threads(fetch, THREADS) if isinstance(result, FetchResult)}
    assert len(paths) == 1
    assert paths.pop().read_bytes() == LARGE


def test_errors_and_redirects_between_do_not_mix_up_answers(origin: Origin, fetcher: AnyFetcher) -> None:
    for number in range(60):
        origin.serve(f"/data/{number}", content(b"%d" % number))
        origin.serve(f"/go/{number}", redirect(f"/data/{number}"))
        origin.serve(f"/no/{number}", status(404, body=b"nothing here"))

    def fetch(number: int) -> None:
        for kind in ("go", "no", "data"):
            order = FetchOrder(str(number), 1, FetchRequest(origin.url(f"/{kind}/{number}")))
            try:
                assert fetcher.fetch(order).path.read_bytes() == b"%d" % number
                assert kind != "no"
            except StagerError as error:
                assert (kind, error.details["status"]) == ("no", 404)  # noqa: PT017 - one of three

    in_threads(fetch, 60)
    assert origin.connections <= THREADS

"""Accesses that can't be written down where they happen: reported in batches, by the way, or forgotten."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from stager.cache.access import APART_SECONDS
from stager.cache.store import FileCache
from stager.clock import ManualClock
from stager.errors import CacheGoneError, InputError
from stager.model.keys import key_digest
from stager.service.cache_accesses import MOST, MOST_WAITING, AccessReporter, AccessService
from tests.support.until import until


class Server:
    def __init__(self) -> None:
        self.reports: list[dict[str, float]] = []
        self.answers = threading.Event()
        self.answers.set()
        self.fails = False

    def __call__(self, accesses: Mapping[str, float]) -> None:
        assert self.answers.wait(60)
        if self.fails:
            raise ConnectionError("no server")
        self.reports.append(dict(accesses))


@pytest.fixture
def server() -> Server:
    return Server()


def test_what_comes_within_a_few_seconds_is_one_report(server: Server) -> None:
    reporter = AccessReporter(server, linger_seconds=2.0)
    for number in range(100):
        reporter({str(number): float(number)})
    until(lambda: server.reports, "it is sent")
    reporter.finish(lambda: None)
    assert server.reports == [{str(number): float(number) for number in range(100)}]


def test_who_reports_does_not_wait_for_the_server(server: Server) -> None:
    server.answers.clear()
    reporter = AccessReporter(server, linger_seconds=0.0)
    for number in range(1000):
        reporter({str(number): 0.0})
    server.answers.set()
    reporter.finish(lambda: None)
    assert sum(map(len, server.reports)) == 1000


def test_what_waits_is_bounded_and_so_is_a_report(server: Server) -> None:
    server.answers.clear()
    reporter = AccessReporter(server, linger_seconds=100.0)
    reporter({str(number): 0.0 for number in range(MOST_WAITING + 1000)})
    assert len(reporter._waiting) == MOST_WAITING
    server.answers.set()
    reporter.finish(lambda: None)
    assert [len(report) for report in server.reports] == [MOST] * (MOST_WAITING // MOST)


def test_a_server_that_is_away_is_not_asked_all_the_time(server: Server) -> None:
    server.fails = True
    reporter = AccessReporter(server, linger_seconds=0.0)
    reporter({"a": 0.0})
    until(lambda: not reporter._waiting, "it was tried")
    for number in range(100):
        reporter({str(number): 0.0})
    assert len(reporter._waiting) == 100
    server.fails = False
    reporter.finish(lambda: None)
    assert len(server.reports) == 1


def test_a_process_that_ends_sends_its_last_accesses_without_a_thread(server: Server) -> None:
    reporter = AccessReporter(server)
    reporter.finish(lambda: reporter({"a": 1.0}))
    assert server.reports == [{"a": 1.0}]
    assert reporter._thread is None


@pytest.fixture
def clock() -> ManualClock:
    import time

    return ManualClock(time.time() + 3600)


def test_the_server_writes_down_what_is_news(tmp_path: Path, clock: ManualClock) -> None:
    cache = FileCache(tmp_path, clock=clock)
    cache.put("a", b"a")
    cache.put("b", b"b")
    told: list[Mapping[str, float]] = []
    service = AccessService(cache, clock, told.append)
    used = {key_digest("a"): clock.time() - 60, key_digest("gone"): clock.time()}
    assert service.report_accesses(used) == 1
    assert cache.last_access("a") == pytest.approx(clock.time() - 60, abs=0.01)
    assert told == [{key_digest("a"): clock.time() - 60}]
    clock.advance(APART_SECONDS / 2)
    assert service.report_accesses({key_digest("a"): clock.time()}) == 0
    assert len(told) == 1


def test_nothing_is_used_in_the_future(tmp_path: Path, clock: ManualClock) -> None:
    cache = FileCache(tmp_path, clock=clock)
    cache.put("a", b"a")
    AccessService(cache, clock).report_accesses({key_digest("a"): clock.time() + 1e9})
    assert cache.last_access("a") == pytest.approx(clock.time(), abs=0.01)


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", "a" * 63, "G" * 64])
def test_what_is_no_digest_is_refused(tmp_path: Path, clock: ManualClock, digest: str) -> None:
    with pytest.raises(InputError, match="is not the SHA-256 of a key"):
        AccessService(FileCache(tmp_path), clock).report_accesses({digest: 1.0})


def test_too_many_at_once_are_refused(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(InputError, match="in one report"):
        AccessService(FileCache(tmp_path), clock).report_accesses(
            dict.fromkeys(map(str, range(MOST + 1)), 1.0)
        )


def test_in_a_cache_that_is_gone_nothing_is_written_down(tmp_path: Path, clock: ManualClock) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.root.rename(tmp_path / "away")
    with pytest.raises(CacheGoneError):
        AccessService(cache, clock).report_accesses({"a" * 64: 1.0})

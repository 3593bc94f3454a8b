"""What every place where fetches run does, with real fetches from a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256, sha512
from itertools import groupby
from pathlib import Path
from random import Random

import pytest

from stager.cache.store import FileCache
from stager.errors import (
    CancelledError,
    ConflictError,
    ConnectionFailedError,
    DigestMismatchError,
    FetchError,
    IncompleteError,
    OriginBusyError,
    OriginRefusedError,
    StagerError,
)
from stager.farm.base import Farm
from stager.model.fetches import Failed, FetchOrder, FetchRequest, Progress, Ready, Signal, Started
from tests.support.farms import ENDING, FARMS, PATIENCE, SEATS, Ear, MakeFarm, cache_of, ordered
from tests.support.origin import OVERLAP, Exchange, Origin, content, silence, status

LARGE = Random(21).randbytes(6_000_000)
CUT = 5_000_000
"""More than is held in memory, and more than one buffer."""
PROMPT = 20.0
"""Seconds within which a cancel is heard, on a busy machine and over a border."""


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture(params=FARMS)
def make(request: pytest.FixtureRequest) -> MakeFarm:
    return FARMS[request.param]


@pytest.fixture(params=ENDING)
def make_ending(request: pytest.FixtureRequest) -> MakeFarm:
    return ENDING[request.param]


@pytest.fixture
def ending(make_ending: MakeFarm, tmp_path: Path, ear: Ear) -> Iterator[Farm]:
    """A farm that tells in its own threads, and whose tries end with it."""
    with make_ending(tmp_path, ear) as farm:
        yield farm


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def farm(make: MakeFarm, tmp_path: Path, ear: Ear) -> Iterator[Farm]:
    with make(tmp_path, ear) as farm:
        yield farm


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return cache_of(tmp_path)


def stalled(data: bytes = LARGE, cut: int = CUT) -> Callable[[Exchange], None]:
    """A file whose end does not come, and that could be gone on with."""
    return content(data, etag='"1"', cut=cut, end="hold")


def whole(data: bytes = LARGE) -> Callable[[Exchange], None]:
    return content(data, etag='"1"')


def in_place(cache: FileCache) -> int:
    """Bytes in unfinished files."""
    return sum(path.stat().st_size for path in (cache.root / "partial").rglob("*.part"))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_file_is_brought_and_its_try_heard_from_start_to_end(
    farm: Farm, ear: Ear, origin: Origin, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", whole())
    farm.start(ordered("f1", url))
    result = ear.ready("f1").result
    assert (result.sha256, result.size, result.received) == (
        sha256(LARGE).hexdigest(),
        len(LARGE),
        len(LARGE),
    )
    assert (result.cached, result.resumed_from, result.unproven) == (False, 0, False)
    assert cache.object_path(result.sha256).read_bytes() == LARGE
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.fresh_until == result.fresh_until
    assert ear.heard[0] == Started("f1", 1)
    farm.start(ordered("f2", url))
    assert ear.ready("f2").result.cached
    assert len(origin.seen()) == 1


def test_what_belongs_to_an_order_reaches_whoever_runs_it(
    farm: Farm, ear: Ear, origin: Origin, cache: FileCache
) -> None:
    """Mirrors, a digest of any algorithm and a size: gone on with at the mirror, under the digest."""
    url = origin.serve("/run.nxs", content(LARGE, cut=CUT))
    with Origin() as second:
        mirror = second.serve("/copy.nxs", whole())
        digest = f"sha512:{sha512(LARGE).hexdigest()}"
        request = FetchRequest(url, digest=digest, mirrors=(mirror,), size=len(LARGE))
        farm.start(FetchOrder("f1", 1, request))
        assert ear.ready("f1").result.sha256 == sha256(LARGE).hexdigest()
        assert second.seen()[0].headers["range"] == f"bytes={CUT}-"
    entry = cache.lookup(url)
    assert entry is not None
    assert (entry.digests, entry.url) == ((digest,), mirror)
    farm.start(FetchOrder("f2", 1, FetchRequest(url, size=7, refresh=True)))
    assert isinstance(ear.failed("f2").error, IncompleteError | DigestMismatchError)


def test_each_order_ends_once_and_progress_is_between_start_and_end(
    farm: Farm, ear: Ear, origin: Origin
) -> None:
    for number in range(12):
        answer = status(404) if number % 3 == 2 else content(b"%d" % number)
        farm.start(ordered(f"f{number}", origin.serve(f"/{number}", answer)))
    ear.wait_for(lambda ear: len(ear.ends()) == 12)
    farm.close()
    for number in range(12):
        first, *between, last = ear.of(f"f{number}")
        assert isinstance(first, Started)
        assert all(isinstance(signal, Progress) for signal in between)
        assert isinstance(last, Failed if number % 3 == 2 else Ready)


def test_a_file_that_takes_a_while_reports_how_far_it_is(farm: Farm, ear: Ear, origin: Origin) -> None:
    def drip(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(len(LARGE))})
        pause = threading.Event()
        for start in range(0, len(LARGE), 200_000):
            exchange.body(LARGE[start : start + 200_000])
            pause.wait(0.06)

    farm.start(ordered("f1", origin.serve("/run.nxs", drip)))
    ear.ready("f1")
    reports = [signal for signal in ear.heard if isinstance(signal, Progress)]
    assert reports
    assert {(report.fetch, report.generation, report.total) for report in reports} == {("f1", 1, len(LARGE))}
    assert [r.received for r in reports] == sorted({r.received for r in reports})


def test_an_order_that_is_here_already_is_ignored(farm: Farm, ear: Ear, origin: Origin) -> None:
    held = threading.Event()

    def answer(exchange: Exchange) -> None:
        held.wait(PATIENCE)
        whole(b"data")(exchange)

    order = ordered("f1", origin.serve("/run.nxs", answer))
    other = ordered("f2", origin.serve("/other", content(b"other")))
    farm.start(order)
    farm.start(order)
    farm.start(other, [order])
    origin.wait_for("/run.nxs")
    held.set()
    ear.ready("f1")
    ear.ready("f2")
    farm.close()
    assert len(ear.ends()) == 2
    assert len(origin.seen("/run.nxs")) == 1


def test_two_run_at_once_and_no_more_than_there_are_seats(farm: Farm, ear: Ear, origin: Origin) -> None:
    together = threading.Barrier(SEATS)
    running, most, lock = 0, 0, threading.Lock()

    def answer(exchange: Exchange) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(PATIENCE)
        with lock:
            running -= 1
        content(b"data")(exchange)

    for number in range(3 * SEATS):
        farm.start(ordered(f"f{number}", origin.serve(f"/{number}", answer)))
    ear.wait_for(lambda ear: len(ear.ends()) == 3 * SEATS)
    assert all(isinstance(end, Ready) for end in ear.ends())
    assert most == SEATS


def test_what_follows_an_order_runs_one_after_another_whatever_becomes_of_the_one_before(
    farm: Farm, ear: Ear, origin: Origin
) -> None:
    answers = [content(b"a"), status(404), content(b"c"), content(b"d")]
    orders = [ordered(n, origin.serve(f"/{n}", answer)) for n, answer in zip("abcd", answers, strict=True)]
    farm.start(orders[0], orders[1:])
    ear.wait_for(lambda ear: len(ear.ends()) == 4)
    assert [fetch for fetch, _ in groupby(signal.fetch for signal in ear.heard)] == list("abcd")
    assert [type(end) for end in ear.ends()] == [Ready, Failed, Ready, Ready]
    assert [seen.target for seen in origin.seen()] == ["/a", "/b", "/c", "/d"]
    assert origin.connections == 1


def test_a_cancel_breaks_off_a_transfer_soon_and_the_next_try_goes_on(
    farm: Farm, ear: Ear, origin: Origin, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", stalled(), whole())
    other = origin.serve("/other", silence)
    farm.start(ordered("f1", url))
    farm.start(ordered("f2", other))
    until(lambda: in_place(cache))
    origin.wait_for("/other")
    began = time.monotonic()
    farm.cancel("f1", 1)
    failed = ear.failed("f1")
    assert time.monotonic() - began < PROMPT
    assert isinstance(failed.error, CancelledError)
    assert failed.progressed
    assert not ear.ends("f2")
    farm.start(ordered("f1", url, 2))
    result = ear.ready("f1", 2).result
    assert 0 < result.resumed_from <= CUT
    assert origin.seen("/run.nxs")[1].headers["range"] == f"bytes={result.resumed_from - OVERLAP}-"
    farm.cancel("f2", 1)
    assert isinstance(ear.failed("f2").error, CancelledError)


def test_a_cancel_is_heard_before_the_origin_answers(farm: Farm, ear: Ear, origin: Origin) -> None:
    farm.start(ordered("f1", origin.serve("/run.nxs", silence)))
    origin.wait_for("/run.nxs")
    began = time.monotonic()
    farm.cancel("f1", 1)
    failed = ear.failed("f1")
    assert time.monotonic() - began < PROMPT
    assert isinstance(failed.error, CancelledError)
    assert not failed.progressed


def test_an_order_that_is_cancelled_before_its_turn_ends_without_asking_the_origin(
    farm: Farm, ear: Ear, origin: Origin
) -> None:
    for number in range(SEATS):
        farm.start(ordered(f"held{number}", origin.serve(f"/held{number}", silence)))
        origin.wait_for(f"/held{number}")
    farm.start(ordered("late", origin.serve("/late", content(b"late"))))
    farm.cancel("late", 1)
    farm.cancel("held0", 1)
    failed = ear.failed("late")
    assert isinstance(failed.error, CancelledError)
    assert (failed.error.code, failed.error.transient, failed.progressed) == ("cancelled", False, False)
    assert origin.seen("/late") == []


def test_a_cancel_among_orders_that_follow_each_other_skips_the_one_it_names(
    farm: Farm, ear: Ear, origin: Origin
) -> None:
    held = threading.Event()

    def answer(exchange: Exchange) -> None:
        held.wait(PATIENCE)
        content(b"a")(exchange)

    orders = [ordered("a", origin.serve("/a", answer))]
    orders += [ordered(n, origin.serve(f"/{n}", content(n.encode()))) for n in "bc"]
    farm.start(orders[0], orders[1:])
    origin.wait_for("/a")
    farm.start(ordered("beside", origin.serve("/beside", silence)))
    origin.wait_for("/beside")
    farm.cancel("b", 1)
    farm.cancel("beside", 1)  # the word goes round, and when this one has arrived so has that before it
    ear.failed("beside")
    held.set()
    assert isinstance(ear.failed("b").error, CancelledError)
    ear.ready("a")
    ear.ready("c")
    assert origin.seen("/b") == []


def test_a_cancel_of_what_is_not_here_does_nothing(farm: Farm, ear: Ear, origin: Origin) -> None:
    url = origin.serve("/run.nxs", content(b"data"))
    farm.cancel("nobody", 1)
    farm.cancel("f1", 1)
    farm.start(ordered("f1", url))
    farm.cancel("f1", 2)
    ear.ready("f1")
    farm.cancel("f1", 1)
    farm.close()
    assert len(ear.ends()) == 1


def refuse(exchange: Exchange) -> None:
    status(404)(exchange)


@pytest.mark.parametrize(
    ("answer", "kind", "details", "progressed"),
    [
        (refuse, OriginRefusedError, {"status": 404}, False),
        (status(503, {"Retry-After": "7"}), OriginBusyError, {"status": 503, "retry_after": 7.0}, False),
        (
            content(LARGE, etag='"1"', cut=CUT),
            IncompleteError,
            {"received": CUT, "total": len(LARGE), "progressed": True},
            True,
        ),
        (content(b"other"), DigestMismatchError, {"got": sha256(b"other").hexdigest()}, False),
        (Exchange.close, ConnectionFailedError, {}, False),
    ],
    ids=["404", "503", "short", "digest", "no answer"],
)
def test_an_error_keeps_its_kind_its_words_and_its_details(
    farm: Farm,
    ear: Ear,
    origin: Origin,
    answer: Callable[[Exchange], None],
    kind: type[StagerError],
    details: dict[str, object],
    *,
    progressed: bool,
) -> None:
    url = origin.serve("/run.nxs", answer)
    farm.start(ordered("f1", url, sha256="1" * 64 if kind is DigestMismatchError else None))
    failed = ear.failed("f1")
    assert type(failed.error) is kind
    assert failed.error.details.items() >= ({"url": url} | details).items()
    assert failed.progressed is progressed
    assert url in failed.error.what
    assert failed.error.cause
    assert failed.error.remedy


def test_a_fault_of_the_program_ends_its_try_and_nothing_else(
    make: MakeFarm, tmp_path: Path, ear: Ear, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where tries are made in another process, the fault gets there as Python's site customisation.
    patch = """
from stager.transfer.plan import TransferPlan
def on_response(self, status, headers, now, before=TransferPlan.on_response):
    if status == 418:
        raise ZeroDivisionError("of the test")
    return before(self, status, headers, now)
TransferPlan.on_response = on_response
"""
    from stager.transfer.plan import TransferPlan

    (tmp_path / "sitecustomize.py").write_text(patch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(TransferPlan, "on_response", TransferPlan.on_response)  # put back afterwards
    exec(patch, {})
    with make(tmp_path, ear) as farm:
        farm.start(ordered("f1", origin.serve("/broken", status(418))))
        failed = ear.failed("f1")
        assert type(failed.error) is FetchError
        assert "ZeroDivisionError: of the test" in failed.error.cause
        assert "fault of stager" in failed.error.remedy
        farm.start(ordered("f2", origin.serve("/run.nxs", content(b"data"))))
        ear.ready("f2")


def test_close_breaks_off_what_runs_keeps_its_bytes_and_says_nothing_afterwards(
    make_ending: MakeFarm, tmp_path: Path, ear: Ear, origin: Origin, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", stalled(), whole())
    with make_ending(tmp_path, ear) as farm:
        farm.start(ordered("f1", url))
        farm.start(ordered("f2", origin.serve("/other", silence)))
        farm.start(ordered("f3", origin.serve("/third", silence)))
        origin.wait_for("/other")
        until(lambda: in_place(cache))
        farm.close()
        heard = list(ear.heard)
        ends = {end.fetch: end for end in ear.ends()}
        assert set(ends) == {"f1", "f2", "f3"}
        assert isinstance(ends["f1"], Failed)
        assert ends["f1"].progressed
        with pytest.raises(ConflictError):
            farm.start(ordered("f4", url))
        farm.cancel("f1", 1)
        farm.close()
    assert ear.heard == heard
    assert origin.seen("/third") == []
    later = Ear()
    with make_ending(tmp_path, later) as farm:
        farm.start(ordered("f1", url, 2))
        result = later.ready("f1", 2).result
    assert 0 < result.resumed_from <= CUT
    assert result.received == len(LARGE) - result.resumed_from + OVERLAP


def test_a_listener_that_is_slow_with_one_does_not_stop_the_others(
    ending: Farm, ear: Ear, origin: Origin, cache: FileCache
) -> None:
    slow = threading.Event()

    def wait_for_it(signal: Signal) -> None:
        if signal.fetch == "slow":
            slow.wait(PATIENCE)

    ear.before = wait_for_it
    try:
        ending.start(ordered("slow", origin.serve("/slow", content(b"slow"))))
        url = origin.serve("/quick", content(b"quick"))
        ending.start(ordered("quick", url))
        until(lambda: cache.lookup(url))
        assert not ear.of("slow")
    finally:
        slow.set()
    ear.ready("slow")
    ear.ready("quick")


def test_a_listener_that_breaks_stops_nothing(ending: Farm, ear: Ear, origin: Origin) -> None:
    def break_once(_: Signal) -> None:
        ear.before = lambda _: None
        raise ValueError("of the test")

    ear.before = break_once
    for number in range(3):
        ending.start(ordered(f"f{number}", origin.serve(f"/{number}", content(b"data"))))
    ear.wait_for(lambda ear: len(ear.ends()) == 3)


def test_a_listener_may_close_the_farm(ending: Farm, ear: Ear, origin: Origin) -> None:
    def close(signal: Signal) -> None:
        if isinstance(signal, Ready):
            ending.close()

    ear.before = close
    ending.start(ordered("f1", origin.serve("/run.nxs", content(b"data"))))
    ear.ready("f1")


def test_tries_that_end_with_this_process_can_not_be_adopted(ending: Farm) -> None:
    assert not ending.outlives
    with pytest.raises(ConflictError):
        ending.adopt(ordered("f1", "http://origin.test/run.nxs"))

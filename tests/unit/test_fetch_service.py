from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stager.clock import ManualClock
from stager.errors import CancelledError, ConflictError, InputError, OriginBusyError, OriginRefusedError
from stager.farm.threads import ThreadFarm
from stager.model.backoff import RetryPolicy
from stager.model.fetches import FetchOrder, FetchRequest
from stager.service.fetching import FetchService
from tests.support.fetching import PATIENCE, ManualTimer, ScriptedFetch, TransientError

A, B, C = (f"http://origin.test/{name}" for name in "abc")
HEX1, HEX2 = "1" * 64, "2" * 64

Services = Callable[..., FetchService]


@pytest.fixture
def services() -> Iterator[Services]:
    made: list[FetchService] = []

    def make(fetch: ScriptedFetch, **options: Any) -> FetchService:
        made.append(FetchService(fetch=fetch, **options))
        return made[-1]

    yield make
    for service in made:
        service.close(cancel=True)


def test_prefetch_returns_before_the_transfer_and_the_handle_gets_its_result(services: Services) -> None:
    fetch = ScriptedFetch()
    with fetch.held():
        handle = services(fetch).prefetch(A)
        fetch.wait_for(lambda f: f.running == [A])
        assert not handle.done()
        assert handle.progress() == (3, 7)
        with pytest.raises(TimeoutError):
            handle.result(0.001)
    assert handle.result(PATIENCE).url == A
    assert handle.done()
    assert handle.progress() == (7, 7)


def test_one_url_asked_for_many_times_is_transferred_once(services: Services) -> None:
    fetch = ScriptedFetch()
    service = services(fetch)
    with fetch.held():
        handles = [service.prefetch(url) for url in (A, A, "HTTP://Origin.test:80/a#part")]
    results = {handle.result(PATIENCE).path for handle in handles}
    assert len(results) == len(fetch.orders) == 1


def test_different_digests_of_one_url_follow_one_another(services: Services) -> None:
    fetch = ScriptedFetch()
    service = services(fetch)
    with fetch.held():
        one = service.prefetch(FetchRequest(A, sha256=HEX1))
        two = service.prefetch(FetchRequest(A, sha256=HEX2))
        plain = service.prefetch(A)
        again = service.prefetch(FetchRequest(A, sha256=HEX2))
        fetch.wait_for(lambda f: f.running)
    assert [h.result(PATIENCE).sha256 for h in (one, two, again)] == [HEX1, HEX2, HEX2]
    plain.result(PATIENCE)
    assert fetch.most_at_once == 1
    assert [o.request.sha256 for o in fetch.orders] == [HEX1, HEX2, None]


def test_what_is_fetched_with_somebodys_credentials_is_not_handed_to_another_one(services: Services) -> None:
    fetch = ScriptedFetch()
    service = services(fetch)
    with fetch.held():
        handles = [service.prefetch(FetchRequest(A, owner=owner)) for owner in ("ada", "bob", "ada")]
    for handle in handles:
        handle.result(PATIENCE)
    assert [o.request.owner for o in fetch.orders] == ["ada", "bob"]


def test_a_request_to_refresh_does_not_join_one_that_may_answer_from_the_cache(services: Services) -> None:
    fetch = ScriptedFetch()
    service = services(fetch)
    with fetch.held():
        handles = [
            service.prefetch(FetchRequest(A, refresh=refresh)) for refresh in (False, True, True, False)
        ]
    for handle in handles:
        handle.result(PATIENCE)
    assert [o.request.refresh for o in fetch.orders] == [False, True]


def test_a_transient_failure_is_tried_again_after_a_wait_that_holds_no_thread(services: Services) -> None:
    fetch, timer, clock = (
        ScriptedFetch({A: [TransientError("first"), TransientError("second")]}),
        ManualTimer(),
        ManualClock(),
    )
    policy = RetryPolicy(first_seconds=10)
    service = services(fetch, threads=1, retry=policy, timer=timer, clock=clock, jitter=lambda: 1 - 1e-12)
    handle = service.prefetch(A)
    fetch.wait_for(lambda f: f.orders and not f.running)
    assert service.prefetch(B).result(PATIENCE).url == B  # the only thread is free
    assert timer.fire() - clock.now == pytest.approx(10)
    assert timer.fire() - clock.now == pytest.approx(20)
    assert handle.result(PATIENCE).url == A
    assert [o.generation for o in fetch.orders if o.request.url == A] == [1, 2, 3]


def test_a_permanent_failure_is_told_at_once(services: Services) -> None:
    fetch = ScriptedFetch({A: [OriginRefusedError("fetch of a", cause="404")]})
    with pytest.raises(OriginRefusedError, match="404"):
        services(fetch).prefetch(A).result(PATIENCE)
    assert len(fetch.orders) == 1


def test_tries_without_progress_are_counted_and_the_last_error_says_how_many(services: Services) -> None:
    fetch, timer = ScriptedFetch({A: [TransientError("busy", cause="503")] * 9}), ManualTimer()
    handle = services(fetch, retry=RetryPolicy(attempts=3), timer=timer).prefetch(A)
    timer.fire()
    timer.fire()
    with pytest.raises(TransientError, match="tried 3 times"):
        handle.result(PATIENCE)
    assert len(fetch.orders) == 3


def test_progress_resets_the_count_of_tries(services: Services) -> None:
    script: list[BaseException] = [
        TransientError("1"),
        TransientError("2", progressed=True),
        TransientError("3"),
        TransientError("4"),
    ]
    fetch, timer = ScriptedFetch({A: script}), ManualTimer()
    handle = services(fetch, retry=RetryPolicy(attempts=3), timer=timer).prefetch(A)
    for _ in range(3):
        timer.fire()
    with pytest.raises(TransientError, match="4"):
        handle.result(PATIENCE)
    assert len(fetch.orders) == 4


def test_the_wait_that_an_origin_asked_for_is_kept(services: Services) -> None:
    fetch, timer, clock = (
        ScriptedFetch({A: [OriginBusyError("busy", retry_after=77)]}),
        ManualTimer(),
        ManualClock(),
    )
    handle = services(fetch, timer=timer, clock=clock).prefetch(A)
    assert timer.fire() - clock.now == 77
    handle.result(PATIENCE)


def test_no_retry_is_begun_beyond_the_deadline(services: Services) -> None:
    fetch, timer = ScriptedFetch({A: [TransientError("busy")]}), ManualTimer()
    with pytest.raises(TransientError):
        services(fetch, retry=RetryPolicy(first_seconds=9, deadline_seconds=1), timer=timer).prefetch(
            A
        ).result(PATIENCE)
    assert not timer.calls


def test_an_origin_is_not_asked_for_more_at_once_than_allowed(services: Services) -> None:
    fetch = ScriptedFetch()
    service = services(fetch, threads=8, origin_connections=2)
    other = "http://other.test/x"
    with fetch.held():
        handles = [service.prefetch(url) for url in (A, B, C, other)]
        fetch.wait_for(lambda f: other in f.running)
        assert sorted(fetch.running) == [A, B, other]
        fetch.let_go(A)
        fetch.wait_for(lambda f: C in f.running)
    for handle in handles:
        handle.result(PATIENCE)


def test_higher_priority_goes_first_also_when_a_later_request_brings_it(services: Services) -> None:
    fetch = ScriptedFetch()
    service = services(fetch, threads=1)
    with fetch.held():
        handles = [service.prefetch(A), service.prefetch(B), service.prefetch(FetchRequest(C, priority=1))]
        handles.append(service.prefetch(FetchRequest(B, priority=2)))
    for handle in handles:
        handle.result(PATIENCE)
    assert fetch.urls() == [A, B, C]


def test_cancel_ends_the_transfer_when_nobody_else_waits_for_it(services: Services) -> None:
    fetch = ScriptedFetch()
    service = services(fetch)
    with fetch.held():
        first, second = service.prefetch(A), service.prefetch(A)
        fetch.wait_for(lambda f: f.running)
        assert first.cancel()
        with pytest.raises(CancelledError):
            first.result(0)
        assert not second.done()
        assert not fetch.cancelled
        assert second.cancel()
        fetch.wait_for(lambda f: f.cancelled)
        assert not second.cancel()


def test_a_request_after_a_cancel_gets_a_transfer_of_its_own_once_the_old_one_has_ended(
    services: Services,
) -> None:
    fetch = ScriptedFetch()
    service = services(fetch)
    with fetch.held():
        old = service.prefetch(A)
        fetch.wait_for(lambda f: f.running)
        old.cancel()
        new = service.prefetch(A)
    assert new.result(PATIENCE).url == A
    assert fetch.most_at_once == 1
    assert len(fetch.orders) == 2


def test_what_is_cancelled_while_it_waits_never_runs(services: Services) -> None:
    fetch, timer = ScriptedFetch({B: [TransientError("busy")]}), ManualTimer()
    service = services(fetch, threads=1, timer=timer)
    resting = service.prefetch(B)
    fetch.wait_for(lambda f: f.orders and not f.running)
    with fetch.held():
        running, queued = service.prefetch(A), service.prefetch(C)
        assert queued.cancel()
        assert resting.cancel()
        timer.fire()
    running.result(PATIENCE)
    service.close()
    assert fetch.urls() == [B, A]


def test_callbacks_are_called_once_outside_locks_and_their_errors_are_logged(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    fetch = ScriptedFetch()
    service = services(fetch)
    called: list[str] = []
    chained = threading.Event()

    def breaks(_handle: object) -> None:
        raise ValueError("of the test")

    with fetch.held():
        handle = service.prefetch(A)
        handle.add_done_callback(breaks)
        handle.add_done_callback(lambda h: called.append(h.result(0).url))
        handle.add_done_callback(lambda _: service.prefetch(B).add_done_callback(lambda _: chained.set()))
    assert chained.wait(PATIENCE)
    assert called == [A]
    handle.add_done_callback(lambda _: called.append("at once"))
    assert called == [A, "at once"]
    assert "of the test" in caplog.text


def test_a_handle_can_be_awaited_and_a_cancelled_task_leaves_the_fetch_alone(services: Services) -> None:
    fetch = ScriptedFetch({B: [OriginRefusedError("404"), OriginRefusedError("404")]})
    service = services(fetch)

    async def main() -> None:
        with fetch.held():
            handle = service.prefetch(A)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await handle
        assert (await handle).url == A
        assert (await handle).url == A
        with pytest.raises(OriginRefusedError):
            await service.prefetch(B)

    asyncio.run(main())
    asyncio.run(main())
    assert fetch.urls().count(A) == 2


def test_leaving_the_block_waits_for_what_was_asked(services: Services) -> None:
    fetch = ScriptedFetch()
    with services(fetch, threads=1) as service:
        handles = [service.prefetch(url) for url in (A, B, C)]
    assert all(handle.done() and handle.result().size == 7 for handle in handles)
    with pytest.raises(ConflictError):
        service.prefetch(A)


def test_leaving_the_block_by_an_error_gives_up_and_starts_nothing_more(services: Services) -> None:
    fetch = ScriptedFetch()
    handles = []
    with fetch.held():
        with pytest.raises(KeyError), services(fetch, threads=1) as service:  # noqa: PT012 - the block is the subject
            handles = [service.prefetch(url) for url in (A, B, C)]
            fetch.wait_for(lambda f: f.running)
            raise KeyError
        assert fetch.cancelled == [A]
    assert fetch.urls() == [A]
    for handle in handles:
        with pytest.raises(CancelledError):
            handle.result(0)


def test_giving_up_starts_nothing_that_waited_for_the_one_given_up(services: Services) -> None:
    fetch = ScriptedFetch()
    service = services(fetch, threads=1)
    a_moment = threading.Event()

    def until_the_thread_is_free(_handle: object) -> None:
        fetch.wait_for(lambda f: not f.running)
        a_moment.wait(0.1)  # in which the second one must not begin, although it is not given up yet

    with fetch.held():
        first, second = service.prefetch(A), service.prefetch(B)
        fetch.wait_for(lambda f: f.running)
        first.add_done_callback(until_the_thread_is_free)
        service.close(cancel=True)
    assert fetch.urls() == [A]
    assert second.done()


def test_a_request_given_up_while_it_is_handed_to_the_farm_is_broken_off(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = ScriptedFetch()
    service = services(fetch)
    start = ThreadFarm.start

    def late(farm: ThreadFarm, order: FetchOrder) -> None:
        service._flights[order.fetch].handles[0].cancel()
        start(farm, order)

    monkeypatch.setattr(ThreadFarm, "start", late)
    with fetch.held():
        handle = service.prefetch(A)
        service.close()
    assert handle.done()
    assert not fetch.running


def test_one_of_two_requests_given_up_leaves_the_other_its_transfer(services: Services) -> None:
    fetch = ScriptedFetch()
    service = services(fetch)
    with fetch.held():
        first, second = service.prefetch(A), service.prefetch(A)
        fetch.wait_for(lambda f: f.running)
        first.cancel()
    assert second.result(PATIENCE).url == A


def test_no_thread_exists_before_the_first_request_nor_after_close(services: Services) -> None:
    before = set(threading.enumerate())
    service = services(ScriptedFetch({A: [TransientError("busy")]}), retry=RetryPolicy(first_seconds=0.001))
    assert set(threading.enumerate()) == before
    service.prefetch(A).result(PATIENCE)
    service.close()
    assert set(threading.enumerate()) == before


def test_bad_requests_are_refused_at_once(services: Services) -> None:
    with pytest.raises(InputError):
        services(ScriptedFetch()).prefetch("gopher://origin.test/")


FORGETFUL = """
import threading
from stager.service.fetching import FetchService
from stager.errors import CancelledError
running = threading.Event()
def fetch(order, *, progress=None, cancelled):
    running.set()
    while not cancelled():
        threading.Event().wait(0.01)
    print("kept", flush=True)
    raise CancelledError("cancelled")
service = FetchService(fetch=fetch, threads=1)
handles = [service.prefetch(f"http://origin.test/{n}") for n in range(3)]
running.wait()
"""


def test_a_service_that_nobody_closed_gives_up_in_order_when_the_program_ends() -> None:
    done = subprocess.run(  # noqa: PLW1510 - the status is compared below
        [sys.executable, "-W", "error", "-c", FORGETFUL], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "kept\n", "")

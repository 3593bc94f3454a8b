from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from stager.errors import CancelledError, ConflictError, FetchError, IncompleteError, OriginRefusedError
from stager.farm.threads import ThreadFarm
from stager.model.fetches import Failed, FetchOrder, FetchRequest, Progress, Ready, Signal, Started
from tests.support.fetching import PATIENCE, ScriptedFetch

URL = "http://origin.test/a"


class Ear:
    """Hears signals and can wait for them."""

    def __init__(self) -> None:
        self.heard: list[Signal] = []
        self._more = threading.Condition()

    def __call__(self, signal: Signal) -> None:
        with self._more:
            self.heard.append(signal)
            self._more.notify_all()

    def wait_for(self, condition: Callable[[list[Signal]], object]) -> None:
        with self._more:
            assert self._more.wait_for(lambda: condition(self.heard), PATIENCE), self.heard

    def ends(self) -> list[Signal]:
        return [s for s in self.heard if isinstance(s, Ready | Failed)]


def order(fetch: str = "f1", generation: int = 1, url: str = URL) -> FetchOrder:
    return FetchOrder(fetch, generation, FetchRequest(url))


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def farms() -> Iterator[Callable[..., ThreadFarm]]:
    made: list[ThreadFarm] = []

    def make(fetch: ScriptedFetch, emit: Callable[[Signal], None], size: int = 2) -> ThreadFarm:
        made.append(ThreadFarm(fetch, emit, size=size))
        return made[-1]

    yield make
    for farm in made:
        farm.close()
        farm.close()


Farms = Callable[..., ThreadFarm]


def test_a_try_is_heard_from_start_to_end_in_order(farms: Farms, ear: Ear) -> None:
    farms(ScriptedFetch(), ear).start(order())
    ear.wait_for(lambda heard: len(heard) == 3)
    started, progress, ready = ear.heard
    assert started == Started("f1", 1)
    assert progress == Progress("f1", 1, 3, 7)
    assert isinstance(ready, Ready)
    assert ready.result.url == URL


def test_a_failed_try_says_why_and_whether_it_progressed(farms: Farms, ear: Ear) -> None:
    errors = [IncompleteError("short", progressed=True), OriginRefusedError("404")]
    farm = farms(ScriptedFetch({URL: list(errors)}), ear)
    farm.start(order(generation=1))
    ear.wait_for(lambda _: ear.ends())
    farm.start(order(generation=2))
    ear.wait_for(lambda _: len(ear.ends()) == 2)
    assert ear.ends() == [Failed("f1", 1, errors[0], progressed=True), Failed("f1", 2, errors[1])]


def test_a_fault_of_the_program_ends_the_try_and_is_logged(
    farms: Farms, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    farm = farms(ScriptedFetch({URL: [ZeroDivisionError("of the test")]}), ear, 1)
    with caplog.at_level(logging.ERROR):
        farm.start(order())
        ear.wait_for(lambda _: ear.ends())
    (failed,) = ear.ends()
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, FetchError)
    assert "ZeroDivisionError: of the test" in str(failed.error)
    assert "Traceback" in caplog.text
    farm.start(order("f2"))
    ear.wait_for(lambda _: len(ear.ends()) == 2)


def test_a_listener_that_breaks_stops_nothing(farms: Farms, caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()

    def emit(signal: Signal) -> None:
        if isinstance(signal, Ready):
            ended.set()
        raise ValueError("of the test")

    with caplog.at_level(logging.ERROR):
        farms(ScriptedFetch(), emit).start(order())
        assert ended.wait(PATIENCE)
    assert "of the test" in caplog.text


def test_no_more_run_at_once_than_the_farm_is_large_and_the_rest_follow(farms: Farms, ear: Ear) -> None:
    fetch = ScriptedFetch()
    farm = farms(fetch, ear, 2)
    with fetch.held():
        for number in range(5):
            farm.start(order(f"f{number}", url=f"{URL}{number}"))
        fetch.wait_for(lambda f: len(f.running) == 2)
    ear.wait_for(lambda _: len(ear.ends()) == 5)
    assert fetch.most_at_once == 2
    assert fetch.urls() == [f"{URL}{n}" for n in range(5)]


def test_an_idle_thread_is_used_again_before_another_is_started(farms: Farms, ear: Ear) -> None:
    farm = farms(ScriptedFetch(), ear, 8)
    for number in range(5):
        farm.start(order(f"f{number}"))
        ear.wait_for(lambda _, n=number: len(ear.ends()) == n + 1 and farm._idle)  # type: ignore[misc]
    assert len(farm._threads) < 8


def test_one_idle_thread_does_not_keep_a_second_order_waiting(farms: Farms, ear: Ear) -> None:
    fetch = ScriptedFetch()
    farm = farms(fetch, ear, 2)
    farm.start(order("first"))
    ear.wait_for(lambda _: ear.ends() and farm._idle == 1)

    def start_both() -> None:
        for name in ("a", "b"):
            farm.start(order(name, url=URL + name))

    with fetch.held():
        with farm._lock:  # the idle thread can't take the one before the other is there
            starting = threading.Thread(target=start_both)
            starting.start()
        fetch.wait_for(lambda f: len(f.running) == 2)
        starting.join()


def test_the_same_order_twice_runs_once(farms: Farms, ear: Ear) -> None:
    fetch = ScriptedFetch()
    farm = farms(fetch, ear)
    with fetch.held():
        farm.start(order())
        farm.start(order())
        fetch.wait_for(lambda f: len(f.running) == 1)
    ear.wait_for(lambda _: ear.ends())
    farm.close()
    assert len(fetch.orders) == 1


def test_cancel_breaks_off_the_try_it_names_and_no_other(farms: Farms, ear: Ear) -> None:
    fetch = ScriptedFetch()
    farm = farms(fetch, ear)
    with fetch.held():
        farm.start(order("a", url=URL + "a"))
        farm.start(order("b", url=URL + "b"))
        fetch.wait_for(lambda f: len(f.running) == 2)
        farm.cancel("a", 2)
        farm.cancel("nobody", 1)
        farm.cancel("a", 1)
        ear.wait_for(lambda _: ear.ends())
        assert fetch.cancelled == [URL + "a"]
    ear.wait_for(lambda _: len(ear.ends()) == 2)
    first, second = ear.ends()
    assert isinstance(first, Failed)
    assert isinstance(first.error, CancelledError)
    assert first.progressed
    assert isinstance(second, Ready)


def test_an_order_cancelled_while_it_waits_never_runs_and_still_ends(farms: Farms, ear: Ear) -> None:
    fetch = ScriptedFetch()
    farm = farms(fetch, ear, 1)
    with fetch.held():
        farm.start(order("a", url=URL + "a"))
        farm.start(order("b", url=URL + "b"))
        farm.cancel("b", 1)
    ear.wait_for(lambda _: len(ear.ends()) == 2)
    assert fetch.urls() == [URL + "a"]


def test_close_ends_every_try_and_every_thread_and_takes_no_more(farms: Farms, ear: Ear) -> None:
    fetch = ScriptedFetch()
    farm = farms(fetch, ear, 1)
    with fetch.held():
        farm.start(order("a"))
        farm.start(order("b"))
        fetch.wait_for(lambda f: len(f.running) == 1)
        farm.close()
    assert [type(s) for s in ear.ends()] == [Failed, Failed]
    assert not any(t.name.startswith("fetch-") for t in threading.enumerate())
    with pytest.raises(ConflictError):
        farm.start(order("c"))


def test_a_listener_may_close_the_farm(farms: Farms) -> None:
    closed = threading.Event()

    def emit(signal: Signal) -> None:
        if isinstance(signal, Ready):
            farm.close()
            closed.set()

    farm = farms(ScriptedFetch(), emit)
    farm.start(order())
    assert closed.wait(PATIENCE)

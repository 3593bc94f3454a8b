"""What flows: speeds, time left, bytes and hits by the minute."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from stager.clock import ManualClock
from stager.errors import StateError
from stager.mapper.admission import Admission
from stager.mapper.machine import Machine
from stager.model.backoff import RetryPolicy
from stager.model.fetches import FetchState, Progress
from stager.model.flow import MINUTE, Transfer
from stager.model.records import Changes, FetchRecord
from stager.service.flow import FRESH_SECONDS, Flow

URL = "http://origin.test/run7.nxs?sig=secret"


@dataclass
class FakeMapper:
    """A machine with fetches that run as far as a test says."""

    machine: Machine = field(
        default_factory=lambda: Machine(
            Admission(slots=9, per_origin=9), RetryPolicy(), job_slots=1, fetch_ids=iter(())
        )
    )
    told: dict[str, Progress] = field(default_factory=dict)
    refuses: bool = False
    asked: int = 0

    def inspect(self, look: Any) -> Future[Any]:
        self.asked += 1
        answer: Future[Any] = Future()
        if self.refuses:
            answer.set_exception(StateError("busy"))
        else:
            answer.set_result(look(self.machine))
        return answer

    def progress(self, fetch: str) -> Progress | None:
        return self.told.get(fetch)

    def run(self, name: str, received: int, total: int | None, *, tries: int = 1, resumed: int = 0) -> None:
        flights = self.machine.flights
        if name not in flights.fetches:
            flights.fetches[name] = FetchRecord(name, URL, state=FetchState.RUNNING)
            flights.admission.resume(name, origin="http://origin.test", key=name)
        flights.fetches[name].generation = tries
        self.told[name] = Progress(name, tries, received, total, resumed)


def flow_of(mapper: FakeMapper, clock: ManualClock) -> Flow:
    return Flow(mapper, clock)  # type: ignore[arg-type]


def seen(flow: Flow, clock: ManualClock, seconds: float = 2.0) -> Transfer:
    clock.advance(seconds)
    (one,) = flow.under_way().transfers
    return one


def ready(name: str, received: int, *, cached: bool = False) -> Changes:
    return Changes(fetches=[FetchRecord(name, URL, state=FetchState.READY, received=received, cached=cached)])


def test_speed_and_time_left_are_of_late() -> None:
    mapper, clock = FakeMapper(), ManualClock()
    flow = flow_of(mapper, clock)
    mapper.run("f", 100, 1000)
    first = seen(flow, clock)
    assert (first.received, first.total, first.share) == (100, 1000, 0.1)
    assert (first.speed, first.seconds_left) == (None, None)
    assert "secret" not in first.url
    mapper.run("f", 300, 1000)
    second = seen(flow, clock)
    assert (second.speed, second.seconds_left) == (100.0, 7.0)
    for _ in range(20):
        second = seen(flow, clock)
    assert second.speed == 0.0, "it stands still"
    assert second.seconds_left is None


def test_a_new_try_begins_anew_and_goes_nowhere_backwards() -> None:
    mapper, clock = FakeMapper(), ManualClock()
    flow = flow_of(mapper, clock)
    mapper.run("f", 900, 1000)
    seen(flow, clock)
    mapper.run("f", 10, 1000, tries=2)
    assert seen(flow, clock).speed is None
    mapper.run("f", 30, 1000, tries=2)
    assert seen(flow, clock).speed == 10.0


def test_a_size_that_nobody_knows_has_no_share_and_no_end() -> None:
    mapper, clock = FakeMapper(), ManualClock()
    flow = flow_of(mapper, clock)
    mapper.run("f", 10, None)
    seen(flow, clock)
    mapper.run("f", 30, None)
    one = seen(flow, clock)
    assert (one.share, one.speed, one.seconds_left) == (None, 10.0, None)


def test_however_many_look_the_mapper_is_asked_once_a_second() -> None:
    mapper, clock = FakeMapper(), ManualClock()
    flow = flow_of(mapper, clock)
    for _ in range(50):
        flow.under_way()
    assert mapper.asked == 1
    clock.advance(FRESH_SECONDS)
    flow.under_way()
    assert mapper.asked == 2


def test_a_mapper_that_is_busy_leaves_what_was_seen_before() -> None:
    mapper, clock = FakeMapper(), ManualClock()
    flow = flow_of(mapper, clock)
    mapper.run("f", 10, 100)
    seen(flow, clock)
    mapper.refuses = True
    assert seen(flow, clock).received == 10


def test_bytes_count_once_whether_they_were_seen_on_their_way_or_at_the_end() -> None:
    mapper, clock = FakeMapper(), ManualClock()
    flow = flow_of(mapper, clock)
    mapper.run("f", 400, 1000, resumed=300)
    seen(flow, clock)
    mapper.run("f", 600, 1000, resumed=300)
    seen(flow, clock)
    flow.tell(ready("f", 700))
    flow.tell(ready("f", 700))
    flow.tell(ready("quick", 50))
    flow.tell(ready("there", 0, cached=True))
    assert [(m.bytes, m.hits, m.misses) for m in flow.minutes()] == [(750, 1, 2)]


def test_minutes_have_no_gaps_and_the_newest_can_be_had_alone() -> None:
    mapper, clock = FakeMapper(), ManualClock()
    flow = flow_of(mapper, clock)
    flow.tell(ready("a", 1))
    clock.advance(3 * MINUTE)
    flow.tell(ready("b", 2))
    minutes = flow.minutes()
    assert [minute.bytes for minute in minutes] == [1, 0, 0, 2]
    assert {b.at - a.at for a, b in pairwise(minutes)} == {MINUTE}
    assert [minute.bytes for minute in flow.minutes(2)] == [0, 2]

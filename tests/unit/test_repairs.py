"""What should never be is found, not at once taken for granted, and put right."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

from stager.mapper.admission import Admission
from stager.mapper.instructions import Dispatch, NewJob
from stager.mapper.invariants import validate
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.mapper.ports import FetchPlace, JobPlace
from stager.mapper.reconcile import Reconciler
from stager.mapper.repairs import FETCH_ALONE, JOB_ALONE, JOB_ASLEEP, JOB_UNQUEUED
from stager.model.backoff import RetryPolicy
from stager.model.fetches import FetchRequest, FetchResult, FetchState, Ready
from stager.model.jobs import JobState

URL = "http://origin.test/a.dat"
NOW = 1000.0


class World:
    """A machine without a loop: what the reconciler asks for is done at once."""

    def __init__(self) -> None:
        ids = (f"f{n}" for n in itertools.count())
        retry = RetryPolicy(attempts=3, first_seconds=0.01)
        self.machine = Machine(Admission(slots=4, per_origin=4), retry, job_slots=4, fetch_ids=ids)
        self.held: set[tuple[str, int]] = set()
        self.upkept = 0
        self.reconciler = Reconciler(
            cast("Mapper", self),
            cast("FetchPlace", self),
            cast("JobPlace", self),
            self.upkeep,
            every_seconds=3600.0,
        )

    def upkeep(self, _names: int) -> Counter[str]:
        self.upkept += 1
        return Counter()

    def holds(self, item: str, number: int) -> bool:
        return (item, number) in self.held

    def inspect(self, look: Callable[[Machine], Any]) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_result(look(self.machine))
        return answer

    def repair(self, mend: Callable[[Machine, float], Any]) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_result(mend(self.machine, NOW))
        return answer

    def submit(self, job: str = "j1", *, after: tuple[str, ...] = ()) -> None:
        self.machine.submit(NewJob(job, ((FetchRequest(URL), None),), after), now=NOW)
        for _ in self.machine.advance(NOW):
            pass
        self.held.add(("f0", 1))

    def ready(self) -> None:
        result = FetchResult(URL, "a" * 64, 3, Path(), cached=False)
        self.machine.fetch_signal(Ready("f0", 1, result), now=NOW)
        self.held.discard(("f0", 1))


def looked(world: World) -> list[Counter[str]]:
    return [world.reconciler.look(), world.reconciler.look()]


def test_where_all_is_well_nothing_is_found() -> None:
    world = World()
    world.submit()
    world.submit("j2", after=("go",))
    assert looked(world) == [Counter(), Counter()]
    world.ready()
    world.machine.advance(NOW)
    world.held.add(("j1", 1))
    assert looked(world) == [Counter(), Counter()]
    assert world.reconciler.counts == {}
    assert world.upkept == 4


def test_a_fetch_that_no_worker_has_is_begun_anew_the_second_time_it_is_found() -> None:
    world = World()
    world.submit()
    world.held.clear()
    assert looked(world) == [Counter(), Counter({FETCH_ALONE: 1})]
    assert world.machine.fetches["f0"].generation == 2
    validate(world.machine)


def test_a_fetch_whose_end_was_on_its_way_is_left_alone() -> None:
    world = World()
    world.submit()
    world.held.clear()
    assert world.reconciler.look() == Counter()
    world.ready()
    world.machine.advance(NOW)
    world.held.add(("j1", 1))
    assert world.reconciler.look() == Counter()
    assert world.machine.fetches["f0"].state is FetchState.READY


def test_a_job_that_nobody_woke_is_woken() -> None:
    world = World()
    world.submit()
    world.ready()
    world.machine.wakes.clear()
    assert looked(world) == [Counter(), Counter({JOB_ASLEEP: 1})]
    assert world.machine.jobs["j1"].state is JobState.READY
    validate(world.machine)


def test_a_ready_job_that_is_in_no_queue_is_queued() -> None:
    world = World()
    world.machine.line.slots = 0
    world.submit()
    world.ready()
    world.machine.advance(NOW)
    world.machine.line._queue.clear()
    assert looked(world) == [Counter(), Counter({JOB_UNQUEUED: 1})]
    validate(world.machine)


def test_a_job_that_its_place_does_not_know_is_handed_over_once_more_under_the_same_id() -> None:
    world = World()
    world.submit()
    world.ready()
    assert world.machine.advance(NOW) == [Dispatch("j1", 1)]
    assert looked(world) == [Counter(), Counter({JOB_ALONE: 1})]
    assert world.machine.advance(NOW) == [Dispatch("j1", 1)]


def test_the_thread_looks_at_start_and_ends_when_told() -> None:
    world = World()
    looked_once = threading.Event()
    before = world.reconciler.look

    def look() -> Counter[str]:
        found = before()
        looked_once.set()
        return found

    world.reconciler.look = look  # type: ignore[method-assign]
    world.reconciler.start()
    assert looked_once.wait(60)
    world.reconciler.close()

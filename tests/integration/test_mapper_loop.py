"""The loop around the machine: it answers when things are durable, and survives faults, its own included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import pytest

from stager.clock import SystemClock
from stager.errors import ConnectionFailedError, StateError
from stager.mapper.admission import Admission
from stager.mapper.instructions import NewJob
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.mapper.ports import Deliver
from stager.model.backoff import RetryPolicy
from stager.model.events import DispatchOrder, JobEnded, JobStarted
from stager.model.fetches import Failed, FetchOrder, FetchRequest, FetchResult, Progress, Ready, Started
from stager.model.jobs import JobInput, JobSpec
from stager.model.records import Changes, Position
from stager.state.store import Store

URL = "https://h.example/a.dat"
SPEC = JobSpec(("fit",), (JobInput(URL),))
PATIENCE = 60.0


class Places:
    """Both places: notes what it is told, and waits for it."""

    def __init__(self, *, outlives: bool = False) -> None:
        self.outlives = outlives
        self.started: list[FetchOrder] = []
        self.adopted: list[FetchOrder] = []
        self.cancelled: list[str] = []
        self.handed: list[DispatchOrder] = []
        self.cleaned: list[str] = []
        self._changed = threading.Condition()

    def _note(self, note: Callable[[], None]) -> None:
        with self._changed:
            note()
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[Places], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), PATIENCE), "it did not come to that"

    def start(self, order: FetchOrder, then: Sequence[FetchOrder] = ()) -> None:
        self._note(lambda: self.started.extend((order, *then)))

    def adopt(self, order: FetchOrder) -> None:
        self._note(lambda: self.adopted.append(order))

    def holds(self, _id: str, _number: int) -> bool:
        return True

    def cancel(self, fetch: str, generation: int) -> None:
        self._note(lambda: self.cancelled.append(f"{fetch}:{generation}"))

    def hand_over(self, order: DispatchOrder) -> None:
        self._note(lambda: self.handed.append(order))

    def stop(self, job: str, epoch: int) -> None: ...

    def clean_up(self, job: str, epoch: int) -> None:
        self._note(lambda: self.cleaned.append(f"{job}:{epoch}"))

    def tidy(self, open_jobs: Collection[str]) -> None: ...


class Stream:
    """A source of signals that keeps what it delivered until that is recorded."""

    def __init__(self) -> None:
        self.started: list[Position | None] = []
        self.recorded_: list[Position] = []
        self.deliver: Deliver = lambda _signals, _position: None
        self._changed = threading.Condition()

    def start(self, position: Position | None, deliver: Deliver) -> None:
        with self._changed:
            self.started.append(position)
            self.deliver = deliver
            self._changed.notify_all()

    def recorded(self, position: Position) -> None:
        with self._changed:
            self.recorded_.append(position)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[Stream], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), PATIENCE), "it did not come to that"


class World:
    """A mapper with a real database and noting places."""

    def __init__(self, root: Path, *, outlives: bool = False, stream: Stream | None = None) -> None:
        ids = (f"fetch{n}" for n in range(10**6))
        self.store = Store(f"sqlite:///{root / 'state.db'}")
        self.places = Places(outlives=outlives)
        self.changes: list[Changes] = []
        self.mapper = Mapper(
            lambda: Machine(
                Admission(slots=4, per_origin=4),
                RetryPolicy(attempts=3, first_seconds=0.01),
                job_slots=None,
                fetch_ids=ids,
            ),
            self.store,
            clock=SystemClock(),
            jitter=lambda: 0.0,
            on_change=self.changes.append,
        )
        self.mapper.start(self.places, self.places, stream)

    def submit(self, job: str = "job1") -> None:
        self.mapper.submit([(NewJob(job, ((FetchRequest(URL), None),)), SPEC)]).result(PATIENCE)

    def ready(self, order: FetchOrder) -> None:
        self.mapper.fetch_signal(Ready(order.fetch, order.generation, result()))

    def close(self) -> None:
        self.mapper.stop()
        self.store.close()


def result() -> FetchResult:
    return FetchResult(URL, "a" * 64, 3, Path("/x"), cached=False, received=3)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_an_answer_comes_when_the_job_is_in_the_database(world: World) -> None:
    world.submit()
    assert world.store.job("job1") is not None


def test_a_fetch_that_is_ready_hands_the_job_over_with_its_input(world: World) -> None:
    world.submit()
    world.places.wait_for(lambda p: p.started)
    world.ready(world.places.started[0])
    world.places.wait_for(lambda p: p.handed)
    (order,) = world.places.handed
    assert (order.job, order.epoch, order.command) == ("job1", 1, ("fit",))
    assert [(i.name, i.sha256, i.size) for i in order.inputs] == [("a.dat", "a" * 64, 3)]


def test_the_end_of_a_job_is_written_before_its_traces_are_cleaned(world: World) -> None:
    world.submit()
    world.places.wait_for(lambda p: p.started)
    world.ready(world.places.started[0])
    world.places.wait_for(lambda p: p.handed)
    world.mapper.job_signal(JobStarted("job1", 1))
    world.mapper.job_signal(JobEnded("job1", 1, 0))
    world.places.wait_for(lambda p: p.cleaned)
    stored = world.store.job("job1")
    assert stored is not None
    assert stored.record.state == "done"


def test_a_failed_try_is_repeated_when_its_time_has_come(world: World) -> None:
    world.submit()
    world.places.wait_for(lambda p: p.started)
    first = world.places.started[0]
    world.mapper.fetch_signal(Failed(first.fetch, first.generation, ConnectionFailedError("reset", url=URL)))
    world.places.wait_for(lambda p: len(p.started) == 2)
    assert world.places.started[1].generation == first.generation + 1


def test_progress_is_there_to_look_at_and_gone_when_the_fetch_is_over(world: World) -> None:
    world.submit()
    world.places.wait_for(lambda p: p.started)
    order = world.places.started[0]
    world.mapper.fetch_signal(Started(order.fetch, order.generation))
    world.mapper.fetch_signal(Progress(order.fetch, order.generation, 1, 3))
    seen = world.mapper.progress(order.fetch)
    assert seen is not None
    assert (seen.received, seen.total) == (1, 3)
    world.ready(order)
    world.places.wait_for(lambda p: p.handed)
    assert world.mapper.progress(order.fetch) is None


def test_a_fault_of_the_machine_does_not_end_the_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit()
    world.places.wait_for(lambda p: p.started)
    order = world.places.started[0]

    def broken(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError

    monkeypatch.setattr(Machine, "meet", broken)
    with pytest.raises(StateError, match="internal fault"):
        world.mapper.meet("go").result(PATIENCE)
    world.places.wait_for(lambda p: len(p.started) == 2)  # what was under way is begun anew
    assert world.places.cancelled == [f"{order.fetch}:{order.generation}"]
    world.ready(order)  # of the generation before: stale
    world.ready(world.places.started[1])
    world.places.wait_for(lambda p: p.handed)
    assert world.mapper.meet("go").result(PATIENCE)


def test_a_refused_write_is_answered_and_what_jobs_told_meanwhile_is_told_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit()
    world.places.wait_for(lambda p: p.started)
    world.ready(world.places.started[0])
    world.places.wait_for(lambda p: p.handed)

    def refuse(*_: object) -> None:
        monkeypatch.undo()
        raise StateError("state can't be written", cause="disk full")

    monkeypatch.setattr(world.store, "save", refuse)
    world.mapper.job_signal(JobEnded("job1", 1, 0))  # lost with the write that failed
    world.places.wait_for(lambda p: len(p.handed) == 2)  # the same id again: its place will tell again
    assert (world.places.handed[1].job, world.places.handed[1].epoch) == ("job1", 1)
    world.mapper.job_signal(JobEnded("job1", 1, 0))
    world.places.wait_for(lambda p: p.cleaned)


def test_a_stopped_mapper_refuses_commands_instead_of_leaving_them_unanswered(world: World) -> None:
    world.mapper.stop()
    with pytest.raises(StateError, match="stopping"):
        world.mapper.meet("go").result(PATIENCE)


def test_an_idle_mapper_uses_no_cpu(world: World) -> None:
    world.submit()
    world.mapper.inspect(lambda _: None).result(PATIENCE)
    turns = 0
    real = world.mapper._turn

    def counted() -> bool:
        nonlocal turns
        turns += 1
        return real()

    world.mapper._turn = counted  # type: ignore[method-assign]
    world.mapper.inspect(lambda _: None).result(PATIENCE)  # ends the turn that was already waiting
    threading.Event().wait(0.5)
    assert turns <= 2


def test_many_waiters_of_one_url_are_woken_in_pieces_and_all_handed_over(world: World) -> None:
    count = 3000
    jobs = [(NewJob(f"j{n:05}", ((FetchRequest(URL), None),)), SPEC) for n in range(count)]
    for start in range(0, count, 500):
        world.mapper.submit(jobs[start : start + 500]).result(PATIENCE)
    world.places.wait_for(lambda p: p.started)
    world.changes.clear()
    world.ready(world.places.started[0])
    world.places.wait_for(lambda p: len(p.handed) == count)
    assert len(world.places.started) == 1
    assert {order.job for order in world.places.handed} == {new.id for new, _ in jobs}
    assert max(len(changes.jobs) for changes in world.changes) < count


def test_a_restart_begins_what_was_queued_without_being_asked(tmp_path: Path) -> None:
    first = World(tmp_path)
    first.submit()
    first.places.wait_for(lambda p: p.started)
    first.close()
    second = World(tmp_path)
    second.places.wait_for(lambda p: p.started)
    assert second.places.started[0].generation == 2
    second.close()


def test_a_batch_of_signals_and_its_place_in_the_stream_are_written_together(tmp_path: Path) -> None:
    stream = Stream()
    world = World(tmp_path, stream=stream)
    assert stream.started == [None]
    world.submit()
    world.places.wait_for(lambda p: p.started)
    (order,) = world.places.started
    ready = Ready(order.fetch, order.generation, result())
    stream.deliver([Started(order.fetch, order.generation), ready], Position("s1", "7-0"))
    stream.wait_for(lambda s: s.recorded_)
    assert world.store.position() == Position("s1", "7-0")
    assert world.store.fetches([order.fetch])[order.fetch].state == "ready"
    stream.deliver([ready], Position("s1", "8-0"))  # once more: stale, and read for good all the same
    stream.wait_for(lambda s: s.recorded_ == [Position("s1", "7-0"), Position("s1", "8-0")])
    world.close()
    again = World(tmp_path, stream=stream)
    assert stream.started == [None, Position("s1", "8-0")]
    again.close()


def test_signals_whose_batch_could_not_be_written_are_read_again_and_late_ones_do_not_overtake_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream()
    world = World(tmp_path, outlives=True, stream=stream)
    world.submit()
    world.places.wait_for(lambda p: p.started)
    (order,) = world.places.started

    def refuse(*_: object) -> None:
        monkeypatch.undo()
        raise StateError("state can't be written", cause="disk full")

    monkeypatch.setattr(world.store, "save", refuse)
    before = stream.deliver
    ready = Ready(order.fetch, order.generation, result())
    before([ready], Position("s1", "7-0"))
    stream.wait_for(lambda s: s.started == [None, None])
    before([], Position("s1", "9-0"))  # was under way when the stream was begun anew
    stream.deliver([ready], Position("s1", "7-0"))
    stream.wait_for(lambda s: s.recorded_)
    assert stream.recorded_ == [Position("s1", "7-0")]
    assert world.places.cancelled == []  # tries that go on without a server are not broken off
    world.places.wait_for(lambda p: p.handed)
    world.close()


def test_tries_that_outlive_the_server_are_adopted_and_not_begun_anew(tmp_path: Path) -> None:
    first = World(tmp_path, outlives=True)
    first.submit()
    first.places.wait_for(lambda p: p.started)
    first.close()
    second = World(tmp_path, outlives=True)
    second.places.wait_for(lambda p: p.adopted)
    assert second.places.adopted == first.places.started
    assert second.places.started == []
    second.ready(second.places.adopted[0])
    second.places.wait_for(lambda p: p.handed)
    second.close()

"""Stage requests in the deciding core: shared fetches, priorities, shares, pieces."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from stager.errors import CacheIOError, IllegalTransitionError, OriginRefusedError
from stager.mapper.admission import Admission
from stager.mapper.instructions import Dispatch, Instruction, NewJob, StartFetch, StopFetch
from stager.mapper.invariants import validate
from stager.mapper.machine import Machine
from stager.mapper.stages import MOST_REFUSALS, PinOrder, order_of
from stager.model.backoff import RetryPolicy
from stager.model.entries import Entry
from stager.model.fetches import Failed, FetchRequest, FetchResult, Ready
from stager.model.stages import Stage, StagedFile, StagedState

URL, OTHER = "http://h.test/run", "http://h.test/other"
NOW = 1_000.0
GOOD = "a" * 64


def machine(slots: int = 8) -> Machine:
    ids = (f"f{number}" for number in count(1))
    return Machine(Admission(slots=slots, per_origin=slots), RetryPolicy(), job_slots=None, fetch_ids=ids)


def files(*urls: str, priority: int = 0, owner: str = "", keep: float | None = 60.0) -> list[StagedFile]:
    stage = Stage("s1", owner, priority, keep, NOW)
    return [StagedFile(stage, number, url) for number, url in enumerate(urls)]


def advanced(made: Machine, limit: int = 1000) -> list[Instruction]:
    instructions = made.advance(NOW, limit=limit)
    validate(made)
    return instructions


def started(instructions: list[Instruction]) -> list[str]:
    return [one.order.request.url for one in instructions if isinstance(one, StartFetch)]


def bring(made: Machine, fetch: str, sha256: str = GOOD) -> None:
    result = FetchResult(made.fetches[fetch].url, sha256, 10, Path("x"), cached=False)
    made.fetch_signal(Ready(fetch, made.fetches[fetch].generation, result), now=NOW)


def orders(made: Machine) -> list[PinOrder]:
    found = [order_of(file) for file in made.take_changes().staged]
    return [order for order in found if order is not None]


def test_a_stage_request_and_a_job_want_one_fetch_and_it_lives_as_long_as_one_of_them_does() -> None:
    made = machine()
    made.submit(NewJob("j1", ((FetchRequest(URL), None),), ("go",)), now=NOW)
    made.stages.add(files(URL))
    assert started(advanced(made)) == [URL]
    assert set(made.fetches["f1"].jobs) == {"j1", "s1/0"}
    made.cancel("j1", now=NOW)
    assert not any(isinstance(one, StopFetch) for one in advanced(made))
    made.stages.cancel(["s1/0"], NOW)
    assert [type(one) for one in advanced(made)] == [StopFetch]
    assert not made.fetches


def test_what_is_fetched_is_to_be_pinned_from_then_on_for_the_time_asked_for() -> None:
    made = machine()
    made.stages.add(files(URL))
    advanced(made)
    assert orders(made) == []
    bring(made, "f1")
    advanced(made)
    order = PinOrder("s1/0", take=True, key=URL, holder="stage:s1", sha256=GOOD, until=NOW + 60)
    assert orders(made) == [order]
    made.stages.pinned("s1/0", GOOD, NOW + 1)
    (file,) = made.take_changes().staged
    assert (file.state, file.ended_at, file.pinned_until) == (StagedState.READY, NOW + 1, NOW + 60)
    assert not made.fetches
    assert not made.stages.files


def test_what_the_cache_has_is_to_be_pinned_without_a_fetch_being_run() -> None:
    made = machine()
    (file,) = files(URL, keep=None)
    file.entry = Entry(URL, GOOD, 10, NOW, fresh_until=None)
    made.stages.add([file])
    assert started(advanced(made)) == []
    assert [(order.sha256, order.until) for order in orders(made)] == [(GOOD, None)]


def test_a_stage_request_of_higher_priority_lifts_the_fetch_that_a_job_waits_for() -> None:
    made = machine(slots=1)
    for number, url in enumerate((OTHER, URL, "http://h.test/third")):
        made.submit(NewJob(f"j{number}", ((FetchRequest(url), None),)), now=NOW)
    assert started(advanced(made)) == [OTHER]
    made.stages.add(files("http://h.test/third", priority=5))
    advanced(made)
    bring(made, "f1")
    assert started(advanced(made)) == ["http://h.test/third"]


def test_owners_share_transfers_whether_they_stage_or_submit() -> None:
    made = machine(slots=2)
    made.stages.add(files(*(f"http://h.test/{n}" for n in range(100)), owner="ann"))
    advanced(made)
    made.submit(NewJob("j1", ((FetchRequest("http://other.test/x"), None),), owner="bob"), now=NOW)
    bring(made, "f1")
    assert started(advanced(made)) == ["http://other.test/x"], "ann has the other seat"


def test_a_large_request_is_taken_in_by_pieces_and_holds_up_no_job() -> None:
    made = machine()
    made.stages.add(files(*(f"http://h.test/{n}" for n in range(10_000))))
    made.submit(NewJob("j1", ()), now=NOW)
    first = made.advance(NOW, limit=100)
    assert [one.job for one in first if isinstance(one, Dispatch)] == ["j1"]
    assert len(made.fetches) == 100
    assert made.pending
    assert len(made.take_changes().staged) == 100


def test_a_file_that_can_not_be_fetched_fails_with_the_reason() -> None:
    made = machine()
    made.stages.add(files(URL))
    advanced(made)
    made.take_changes()
    made.fetch_signal(Failed("f1", 1, OriginRefusedError("404")), now=NOW)
    advanced(made)
    (file,) = made.take_changes().staged
    assert (file.state, file.error, file.pinned) == (StagedState.FAILED, OriginRefusedError("404"), False)


def test_an_object_that_is_gone_when_it_is_to_be_pinned_is_fetched_again_but_not_for_ever() -> None:
    made = machine()
    made.stages.add(files(URL))
    advanced(made)
    for _ in range(MOST_REFUSALS - 1):
        bring(made, "f1")
        advanced(made)
        fetch = made.stages.lost("s1/0", NOW)
        assert fetch == "f1"
        made.lose(fetch)
        assert started(advanced(made)) == [URL]
    bring(made, "f1")
    advanced(made)
    made.take_changes()
    assert made.stages.lost("s1/0", NOW) is None
    (file,) = made.take_changes().staged
    assert file.state is StagedState.FAILED
    assert file.error is not None
    assert "5 times" in file.error.cause


def test_a_file_that_is_cancelled_while_it_is_being_pinned_is_unpinned() -> None:
    made = machine()
    made.stages.add(files(URL))
    advanced(made)
    bring(made, "f1")
    advanced(made)
    made.take_changes()
    assert made.stages.cancel(["s1/0"], NOW) == ["s1/0"]
    assert [order.take for order in orders(made)] == [False]
    made.stages.pinned("s1/0", GOOD, NOW)  # told of the order before
    made.stages.unpinned("s1/0")
    (file,) = made.take_changes().staged
    assert (file.state, file.pinned) == (StagedState.CANCELLED, False)
    assert not made.stages.files


def test_a_pin_that_was_made_before_a_kill_goes_when_it_can_not_be_made_again() -> None:
    made = machine()
    made.stages.add(files(URL))
    advanced(made)
    bring(made, "f1")
    advanced(made)
    orders(made)
    made.stages.failed("s1/0", CacheIOError("can't be written"), NOW + 1)
    assert [order.take for order in orders(made)] == [False]
    made.stages.unpinned("s1/0")
    assert not made.stages.files


def test_a_released_file_is_unpinned_once() -> None:
    made = machine()
    (file,) = files(URL)
    file.state, file.pinned, file.sha256 = StagedState.READY, True, GOOD
    assert made.stages.release([file], NOW) == ["s1/0"]
    assert made.stages.release([file], NOW) == []
    assert [order.take for order in orders(made)] == [False]


def test_a_step_that_the_table_does_not_have_is_refused() -> None:
    (file,) = files(URL)
    file.move(StagedState.FAILED)
    with pytest.raises(IllegalTransitionError, match="s1/0"):
        file.move(StagedState.READY)

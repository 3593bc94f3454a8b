"""The queue of fetches: order, limits, keys that are busy, and what is held back."""

from __future__ import annotations

from stager.mapper.admission import Admission


def queue(*, slots: int = 1, per_origin: int = 10) -> Admission:
    return Admission(slots=slots, per_origin=per_origin)


def add(admission: Admission, fetch: str, **options: object) -> None:
    settings: dict[str, object] = {"origin": "http://a", "key": fetch, "priority": 0}
    settings.update(options)
    admission.add(fetch, **settings)  # type: ignore[arg-type]  # the options are named at each call


def pick(admission: Admission, now: float = 0.0) -> list[str]:
    """The fetches picked, one in each seat."""
    seats = admission.pick(now)
    assert all(len(seat) == 1 for seat in seats)
    return [fetch for seat in seats for fetch in seat]


def drain(admission: Admission, now: float = 0.0) -> list[str]:
    """All that can run, one after the other."""
    order: list[str] = []
    while picked := pick(admission, now):
        order += picked
        for fetch in picked:
            admission.ended(fetch)
    return order


def test_the_oldest_of_one_priority_goes_first() -> None:
    admission = queue()
    for fetch in ("f1", "f2", "f3"):
        add(admission, fetch)
    assert drain(admission) == ["f1", "f2", "f3"]


def test_the_higher_priority_goes_first_whatever_its_origin() -> None:
    admission = queue()
    add(admission, "low", priority=-1)
    add(admission, "middle", origin="http://b")
    add(admission, "high", origin="http://c", priority=5)
    assert drain(admission) == ["high", "middle", "low"]


def test_no_more_than_the_slots_are_picked_and_the_rest_when_one_ends() -> None:
    admission = queue(slots=2)
    for fetch in ("f1", "f2", "f3"):
        add(admission, fetch)
    assert pick(admission, 0.0) == ["f1", "f2"]
    assert pick(admission, 0.0) == []
    assert (admission.running, len(admission)) == (2, 1)
    admission.ended("f1")
    assert pick(admission, 0.0) == ["f3"]


def test_an_origin_at_its_limit_does_not_hold_back_another_origin() -> None:
    admission = queue(slots=10, per_origin=1)
    add(admission, "a1", priority=9)
    add(admission, "a2", priority=9)
    add(admission, "b1", origin="http://b")
    assert pick(admission, 0.0) == ["a1", "b1"]
    admission.ended("b1")
    assert pick(admission, 0.0) == []
    admission.ended("a1")
    assert pick(admission, 0.0) == ["a2"]


def test_two_fetches_of_one_key_never_run_at_once() -> None:
    admission = queue(slots=10)
    add(admission, "f1", key="k")
    add(admission, "f2", key="k")
    add(admission, "other")
    assert pick(admission, 0.0) == ["f1", "other"]
    admission.ended("other")
    assert pick(admission, 0.0) == []
    admission.ended("f1")
    assert pick(admission, 0.0) == ["f2"]


def test_a_fetch_that_waited_for_its_key_keeps_its_place_in_the_queue() -> None:
    admission = queue(slots=2)
    add(admission, "f1", key="k")
    add(admission, "f2", key="k")
    add(admission, "f3")
    add(admission, "f4")
    assert pick(admission, 0.0) == ["f1", "f3"]
    admission.ended("f1")
    assert pick(admission, 0.0) == ["f2"]


def test_a_fetch_is_not_picked_before_its_time() -> None:
    admission = queue(slots=10)
    add(admission, "later", not_before=10.0)
    assert pick(admission, 9.9) == []
    assert admission.next_time() == 10.0
    assert pick(admission, 10.0) == ["later"]
    assert admission.next_time() is None


def test_the_next_time_is_that_of_a_fetch_that_still_waits() -> None:
    admission = queue()
    add(admission, "gone", not_before=5.0)
    add(admission, "later", not_before=10.0)
    admission.remove("gone")
    assert admission.next_time() == 10.0


def test_a_lifted_fetch_overtakes() -> None:
    admission = queue()
    add(admission, "f1")
    add(admission, "f2")
    admission.lift("f2", 1)
    assert drain(admission) == ["f2", "f1"]


def test_a_fetch_lifted_while_it_is_held_back_overtakes_when_its_time_has_come() -> None:
    admission = queue()
    add(admission, "f1")
    add(admission, "f2", not_before=5.0)
    admission.lift("f2", 1)
    add(admission, "f3")
    assert pick(admission, 4.9) == ["f1"]
    admission.ended("f1")
    assert drain(admission, now=5.0) == ["f2", "f3"]


def test_a_fetch_lifted_while_its_key_is_busy_runs_once_and_overtakes() -> None:
    admission = queue(slots=2)
    add(admission, "f1", key="k")
    add(admission, "f2", key="k")
    assert pick(admission, 0.0) == ["f1"]
    admission.lift("f2", 1)
    assert pick(admission, 0.0) == []
    add(admission, "f3")
    add(admission, "f4")
    admission.ended("f1")
    assert pick(admission, 0.0) == ["f2", "f3"]
    admission.ended("f2")
    assert pick(admission, 0.0) == ["f4"]


def test_lifting_to_a_lower_priority_changes_nothing() -> None:
    admission = queue()
    add(admission, "f1", priority=3)
    add(admission, "f2", priority=2)
    admission.lift("f1", 1)
    assert drain(admission) == ["f1", "f2"]


def test_lifting_a_fetch_that_is_not_queued_changes_nothing() -> None:
    admission = queue()
    admission.lift("nobody", 5)
    assert pick(admission, 0.0) == []


def test_a_removed_fetch_is_not_picked() -> None:
    admission = queue(slots=10)
    add(admission, "f1")
    add(admission, "f2", not_before=1.0)
    add(admission, "f3")
    admission.remove("f1")
    admission.remove("f2")
    assert "f1" not in admission
    assert pick(admission, 2.0) == ["f3"]


def test_a_removed_fetch_that_waited_for_its_key_is_not_picked() -> None:
    admission = queue(slots=10)
    add(admission, "f1", key="k")
    add(admission, "f2", key="k")
    pick(admission, 0.0)
    admission.remove("f2")
    admission.ended("f1")
    assert pick(admission, 0.0) == []


def test_the_end_of_a_fetch_that_does_not_run_frees_no_place() -> None:
    admission = queue(slots=1)
    add(admission, "f1")
    add(admission, "f2")
    assert pick(admission, 0.0) == ["f1"]
    admission.ended("f2")
    admission.ended("stranger")
    assert pick(admission, 0.0) == []
    admission.ended("f1")
    admission.ended("f1")
    add(admission, "f3")
    assert pick(admission, 0.0) == ["f2"]


def test_a_fetch_queued_again_takes_its_turn_behind_those_that_waited() -> None:
    admission = queue()
    add(admission, "f1")
    add(admission, "f2")
    assert pick(admission, 0.0) == ["f1"]
    admission.ended("f1")
    add(admission, "f1")
    assert drain(admission) == ["f2", "f1"]


def test_a_fetch_queued_again_for_later_is_not_picked_by_its_old_place() -> None:
    admission = queue()
    add(admission, "f1")
    add(admission, "f1", not_before=5.0)
    assert pick(admission, 1.0) == []
    assert pick(admission, 5.0) == ["f1"]

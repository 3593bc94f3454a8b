"""The queue of fetches: order, limits, keys that are busy, and what is held back."""

from __future__ import annotations

import pytest

from stager.errors import CancelledError, ConnectionFailedError, OriginBusyError
from stager.mapper.admission import Admission
from stager.mapper.order import ORIGINS_REMEMBERED
from stager.model.views import OriginView


def queue(*, slots: int = 1, per_origin: int = 10, batch: int = 1) -> Admission:
    return Admission(slots=slots, per_origin=per_origin, batch=batch, ageing_seconds=10.0)


def add(admission: Admission, fetch: str, **options: object) -> None:
    settings: dict[str, object] = {"origin": "http://a", "key": fetch, "priority": 0}
    settings.update(options)
    admission.add(fetch, **settings)  # type: ignore[arg-type]  # the options are named at each call


def pick(admission: Admission, now: float = 0.0) -> list[str]:
    """The fetches picked, one in each seat."""
    seats = admission.pick(now)
    assert all(len(seat) == 1 for seat in seats)
    return [fetch for seat in seats for fetch in seat]


def view(admission: Admission, origin: str = "http://a") -> OriginView:
    (found,) = (v for v in admission.origins() if v.origin == origin)
    return found


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


# -- age and owners -------------------------------------------------------------------------------


def test_a_fetch_gains_a_point_of_priority_with_each_ageing_time() -> None:
    admission = queue()
    add(admission, "old", since=0.0)
    add(admission, "new", since=11.0, priority=1)
    assert drain(admission, now=11.0) == ["old", "new"]
    add(admission, "old", since=0.0)
    add(admission, "new", since=9.0, priority=1)
    assert drain(admission, now=11.0) == ["new", "old"]


def test_a_deep_queue_does_not_delay_what_another_owner_has_to_fetch() -> None:
    admission = queue()
    for number in range(100):
        add(admission, f"deep{number}", owner="ann", since=0.0)
    for number in range(3):
        add(admission, f"few{number}", owner="bob", since=1000.0)
    order = drain(admission, now=1000.0)
    assert order[:6] == ["deep0", "few0", "deep1", "few1", "deep2", "few2"]


def test_the_owner_with_fewer_seats_goes_first() -> None:
    admission = queue(slots=4)
    for number in range(6):
        add(admission, f"ann{number}", owner="ann")
    assert len(pick(admission)) == 4
    add(admission, "bob0", owner="bob")
    add(admission, "bob1", owner="bob")
    admission.ended("ann0")
    admission.ended("ann1")
    assert pick(admission) == ["bob0", "bob1"]


def test_priority_goes_before_shares() -> None:
    admission = queue()
    for number in range(3):
        add(admission, f"ann{number}", owner="ann", priority=1)
    add(admission, "bob", owner="bob")
    assert drain(admission) == ["ann0", "ann1", "ann2", "bob"]


def test_an_aged_fetch_of_low_priority_is_at_par_with_the_best_and_no_better() -> None:
    admission = queue()
    add(admission, "low0", owner="bob", priority=-1, since=0.0)
    add(admission, "low1", owner="bob", priority=-1, since=0.0)
    for number in range(3):
        add(admission, f"ann{number}", owner="ann", since=40.0)
    assert drain(admission, now=40.0) == ["low0", "ann0", "low1", "ann1", "ann2"]


def test_a_high_priority_that_cannot_start_holds_back_nobody_at_par() -> None:
    admission = queue(slots=3, per_origin=1)
    add(admission, "a1", owner="ann", priority=9)
    add(admission, "a2", owner="ann", priority=9)
    add(admission, "b1", owner="bob", origin="http://b", since=0.0)
    add(admission, "b2", owner="eve", origin="http://b", since=0.0)
    assert pick(admission, 0.0) == ["a1", "b1"]
    admission.ended("b1")
    assert pick(admission, 0.0) == ["b2"]


def test_a_clock_that_is_put_back_stops_nothing() -> None:
    admission = queue()
    add(admission, "f1", since=1000.0)
    assert pick(admission, 500.0) == ["f1"]


# -- what origins cope with -----------------------------------------------------------------------


def test_an_overloaded_origin_gets_fewer_seats_and_gets_them_back() -> None:
    admission = queue(slots=10, per_origin=4)
    for number in range(20):
        add(admission, f"f{number:02}")
    running = pick(admission)
    assert len(running) == 4
    for fetch in running:
        admission.ended(fetch, error=ConnectionFailedError("reset"))
    running = pick(admission)
    assert len(running) == 2
    for fetch in running:
        admission.ended(fetch, size=10)
    assert len(pick(admission)) == 3


def test_a_retry_after_pauses_the_whole_origin_and_no_other() -> None:
    admission = queue(slots=1)
    for fetch in ("f1", "f2"):
        add(admission, fetch)
    add(admission, "other", origin="http://b")
    assert pick(admission, 100.0) == ["f1"]
    admission.ended("f1", error=OriginBusyError("busy", status=429, retry_after=30.0), now=100.0)
    assert view(admission).paused_until == 130.0
    assert pick(admission, 100.0) == ["other"]
    admission.ended("other")
    assert pick(admission, 129.9) == []
    assert admission.next_time() == 130.0
    assert pick(admission, 130.0) == ["f2"]
    assert admission.next_time() is None
    assert view(admission).paused_until is None


def test_a_longer_retry_after_prolongs_the_pause_and_a_shorter_one_does_not() -> None:
    admission = queue(slots=9)
    for fetch in ("f1", "f2", "f3", "f4"):
        add(admission, fetch)
    pick(admission, 100.0)
    for fetch, seconds in (("f1", 10.0), ("f2", 30.0), ("f3", 20.0)):
        admission.ended(fetch, error=OriginBusyError("busy", status=503, retry_after=seconds), now=100.0)
    add(admission, "f5")
    assert pick(admission, 129.0) == []
    assert admission.next_time() == 130.0
    assert pick(admission, 130.0) == ["f5"]


def test_a_retry_after_of_a_day_pauses_for_the_longest_wait() -> None:
    admission = queue()
    add(admission, "f1")
    add(admission, "f2")
    pick(admission, 0.0)
    admission.ended("f1", error=OriginBusyError("busy", status=429, retry_after=86_400.0), now=0.0)
    assert admission.next_time() == 300.0


def test_people_see_what_an_origin_is_given_and_why() -> None:
    admission = queue(slots=2, per_origin=6)
    for fetch in ("f1", "f2", "f3", "f4"):
        add(admission, fetch)
    pick(admission)
    admission.ended("f1", size=5)
    admission.ended("f2", error=OriginBusyError("busy", status=429, retry_after=7.0), now=3.0)
    assert view(admission) == OriginView(
        origin="http://a",
        limit=3,
        maximum=6,
        in_flight=0,
        waiting=2,
        paused_until=10.0,
        recent_successes=1,
        recent_failures=1,
        last_error="origin-busy",
    )


def test_origins_without_work_are_forgotten_when_they_are_many() -> None:
    admission = queue(slots=10**6)
    add(admission, "waits", origin="http://waits", not_before=5.0)
    for number in range(ORIGINS_REMEMBERED + 10):
        add(admission, "f", origin=f"http://{number}")
        pick(admission)
        admission.ended("f")
    names = {v.origin for v in admission.origins()}
    assert len(names) == ORIGINS_REMEMBERED + 1
    assert "http://waits" in names
    assert "http://9" not in names


# -- seats of several -----------------------------------------------------------------------------


def learnt(*, slots: int = 1, batch: int = 4, size: int = 10) -> Admission:
    """A queue that knows the size of the files of one origin."""
    admission = queue(slots=slots, batch=batch)
    for number in range(8):
        add(admission, f"known{number}")
        for fetch in (f for seat in admission.pick(0.0) for f in seat):
            admission.ended(fetch, size=size)
    return admission


def test_small_files_of_one_origin_share_a_seat_in_their_order() -> None:
    admission = learnt()
    for number in range(6):
        add(admission, f"f{number}")
    add(admission, "urgent", priority=1)
    add(admission, "elsewhere", origin="http://b")
    assert admission.pick(0.0) == [["urgent"]]
    admission.ended("urgent", size=10)
    assert admission.pick(0.0) == [["f0", "f1", "f2", "f3"]]


def test_a_seat_is_one_of_the_slots_and_of_the_origins_seats_until_its_last_fetch_has_ended() -> None:
    admission = learnt()
    for number in range(6):
        add(admission, f"f{number}")
    (seat,) = admission.pick(0.0)
    assert (view(admission).in_flight, view(admission).waiting, admission.running) == (1, 2, 4)
    for fetch in seat[1:]:
        admission.ended(fetch, size=10)
        assert admission.pick(0.0) == []
    admission.ended(seat[0], error=CancelledError("cancelled"))
    assert admission.pick(0.0) == [["f4", "f5"]]


def test_large_files_and_those_of_which_nothing_is_known_go_alone() -> None:
    admission = learnt(size=100 << 20)
    for fetch in ("f1", "f2"):
        add(admission, fetch)
        add(admission, f"b{fetch}", origin="http://b")
    assert [len(seat) for seat in admission.pick(0.0)] == [1]


def test_a_fetch_that_failed_before_shares_no_seat() -> None:
    admission = learnt(slots=3)
    add(admission, "f1")
    add(admission, "f2", alone=True)
    add(admission, "f3")
    add(admission, "f4")
    assert admission.pick(0.0) == [["f1"], ["f2"], ["f3", "f4"]]


def test_a_seat_is_not_filled_with_what_is_below_par() -> None:
    admission = learnt()
    add(admission, "f1", priority=1, owner="ann")
    add(admission, "f2", priority=0, owner="ann")
    add(admission, "f3", priority=1, owner="bob")
    assert admission.pick(0.0) == [["f1"]]
    admission.ended("f1")
    assert admission.pick(0.0) == [["f3"]]


def test_two_fetches_of_one_key_share_no_seat() -> None:
    admission = learnt()
    add(admission, "f1", key="k")
    add(admission, "f2", key="k")
    add(admission, "f3")
    assert admission.pick(0.0) == [["f1", "f3"]]


# -- a full cache, and fetches that go on ---------------------------------------------------------


def test_while_the_cache_is_full_only_what_is_known_to_be_small_goes_on() -> None:
    admission = learnt(slots=9)
    add(admission, "small")
    add(admission, "unknown", origin="http://b")
    admission.hold_back(20.0)
    admission.hold_back(10.0)
    assert admission.pick(19.9) == [["small"]]
    assert admission.next_time() == 20.0
    add(admission, "later", origin="http://c")
    assert sorted(admission.pick(20.0)) == [["later"], ["unknown"]]
    assert admission.next_time() is None


def test_a_fetch_that_goes_on_holds_its_seat_and_its_key() -> None:
    admission = queue(slots=3, per_origin=1)
    admission.resume("f1", origin="http://a", key="k")
    add(admission, "same key", key="k", origin="http://b")
    add(admission, "same origin")
    assert admission.is_running("f1")
    assert pick(admission) == []
    admission.ended("f1")
    assert pick(admission) == ["same key", "same origin"]


def test_fetches_that_go_on_may_be_more_than_there_are_slots() -> None:
    admission = queue(slots=1)
    admission.resume("f1", origin="http://a", key="k1")
    admission.resume("f2", origin="http://a", key="k2")
    add(admission, "f3")
    admission.ended("f1")
    assert pick(admission) == []
    admission.ended("f2")
    assert pick(admission) == ["f3"]


@pytest.mark.parametrize(("owner", "next_one"), [("ann", "bob"), ("bob", "ann")])
def test_a_fetch_that_goes_on_counts_for_its_owner(owner: str, next_one: str) -> None:
    admission = queue(slots=2)
    admission.resume("f1", origin="http://a", key="k", owner=owner)
    add(admission, "ann", owner="ann")
    add(admission, "bob", owner="bob")
    assert pick(admission) == [next_one]


def test_while_the_cache_is_away_nothing_is_let_go_and_nothing_is_forgotten() -> None:
    admission = Admission(slots=4, per_origin=4)
    for name in "abc":
        admission.add(name, origin="http://o", key=name, priority=0, since=0.0)
    admission.pause(10.0)
    assert admission.pick(1.0) == []
    assert admission.next_time() == 10.0
    admission.add("d", origin="http://o", key="d", priority=0, since=1.0)
    assert admission.pick(9.9) == []
    assert sorted(name for seat in admission.pick(10.0) for name in seat) == ["a", "b", "c", "d"]
    assert admission.next_time() is None


def test_a_pause_ends_when_the_cache_is_back() -> None:
    admission = Admission(slots=4, per_origin=4)
    admission.add("a", origin="http://o", key="a", priority=0, since=0.0)
    admission.pause(1000.0)
    assert admission.pick(1.0) == []
    admission.pause(0.0)
    assert admission.pick(2.0) == [["a"]]

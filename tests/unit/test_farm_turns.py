from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stager.farm.turns import Turns


def seated(turns: Turns[str]) -> list[str]:
    found = []
    while (item := turns.next()) is not None:
        found.append(item)
    return found


def test_higher_priority_goes_first_and_equal_ones_in_order_of_arrival() -> None:
    turns: Turns[str] = Turns(9, 9)
    for item, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        turns.add(item, "origin", priority)
    assert seated(turns) == ["b", "d", "a", "c"]


def test_no_more_are_seated_than_there_are_seats() -> None:
    turns: Turns[str] = Turns(2, 9)
    for item in "abc":
        turns.add(item, item)
    assert seated(turns) == ["a", "b"]
    turns.leave("a")
    assert seated(turns) == ["c"]


def test_a_full_origin_does_not_block_the_others() -> None:
    turns: Turns[str] = Turns(9, 1)
    turns.add("x1", "x")
    turns.add("x2", "x")
    turns.add("y1", "y")
    assert seated(turns) == ["x1", "y1"]
    turns.leave("x")
    assert seated(turns) == ["x2"]


def test_of_those_that_stepped_aside_the_best_comes_back_first() -> None:
    turns: Turns[str] = Turns(9, 1)
    turns.add("first", "x")
    turns.add("low", "x")
    assert seated(turns) == ["first"]
    turns.add("high", "x", 3)
    turns.leave("x")
    assert seated(turns) == ["high"]


def test_one_that_was_discarded_while_aside_does_not_cost_its_origin_a_seat() -> None:
    turns: Turns[str] = Turns(9, 1)
    for item in ("on", "gone", "next"):
        turns.add(item, "x")
    assert seated(turns) == ["on"]
    turns.discard("gone")
    turns.leave("x")
    assert seated(turns) == ["next"]


def test_a_raised_priority_keeps_the_place_in_time() -> None:
    turns: Turns[str] = Turns(9, 9)
    turns.add("a", "x", 0)
    turns.add("b", "x", 5)
    turns.add("a", "x", 5)
    assert seated(turns) == ["a", "b"]
    assert len(turns) == 0


@given(st.data())
def test_in_any_history_limits_hold_and_nobody_is_passed_over(data: st.DataObject) -> None:
    seats, per_origin = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    turns: Turns[str] = Turns(seats, per_origin)
    waiting: dict[str, tuple[int, int, str]] = {}
    sitting: list[tuple[str, str]] = []
    for number in range(data.draw(st.integers(0, 40))):
        action = data.draw(st.sampled_from(["add", "add", "leave", "discard", "raise"]))
        if action == "add":
            origin, priority = data.draw(st.sampled_from("xyz")), data.draw(st.integers(0, 2))
            turns.add(str(number), origin, priority)
            waiting[str(number)] = (-priority, number, origin)
        elif action == "leave" and sitting:
            _, origin = sitting.pop(data.draw(st.integers(0, len(sitting) - 1)))
            turns.leave(origin)
        elif waiting and action in {"discard", "raise"}:
            item = data.draw(st.sampled_from(sorted(waiting)))
            priority, arrived, origin = waiting[item]
            if action == "discard":
                turns.discard(item)
                del waiting[item]
            else:
                turns.add(item, origin, 3)
                waiting[item] = (-3, arrived, origin)
        while True:
            taken = [origin for _, origin in sitting]
            able = [
                (place, item)
                for item, place in waiting.items()
                if len(taken) < seats and taken.count(place[2]) < per_origin
            ]
            item_or_none = turns.next()
            assert item_or_none == (min(able)[1] if able else None)
            if item_or_none is None:
                break
            sitting.append((item_or_none, waiting.pop(item_or_none)[2]))
        assert len(turns) == len(waiting)

"""The small set of ids behaves as any set that keeps an order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stager.model.idset import IdSet

STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard", "clear"]), st.sampled_from("abc")))


@given(STEPS)
def test_it_holds_what_a_dictionary_would_hold_in_the_same_order(steps: list[tuple[str, str]]) -> None:
    ids, expected = IdSet(), dict[str, None]()
    for step, item in steps:
        if step == "add":
            ids.add(item)
            expected[item] = None
        elif step == "discard":
            ids.discard(item)
            expected.pop(item, None)
        else:
            ids.clear()
            expected.clear()
        assert list(ids) == list(expected)
        assert len(ids) == len(expected)
        assert bool(ids) == bool(expected)
        assert [item in ids for item in "abc"] == [item in expected for item in "abc"]


def test_it_shows_what_is_in_it() -> None:
    ids = IdSet()
    ids.add("f1")
    assert repr(ids) == "IdSet(['f1'])"

"""A heap whose things change their places."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stager.mapper.ranking import Ranking


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 9)))))
def test_the_first_is_the_thing_that_was_put_lowest_at_last(steps: list[tuple[int, int | None]]) -> None:
    ranking: Ranking[int, str] = Ranking()
    known: dict[str, int] = {}
    for number, key in steps:
        thing = f"t{number}"
        if key is None:
            ranking.drop(thing)
            known.pop(thing, None)
        else:
            ranking.put(thing, key)
            known[thing] = key
        assert len(ranking) == len(known)
        first = ranking.first()
        if first is None:
            assert not known
        else:
            assert first[0] == min(known.values()) == known[first[2]]


def test_places_left_take_no_memory_for_long() -> None:
    ranking: Ranking[int, str] = Ranking()
    ranking.put("low", 0)
    for key in range(1, 10_000):
        ranking.put("moves", key)
    assert len(ranking._heap) < 100

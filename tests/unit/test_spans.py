from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stager.transfer.spans import Span, Spans

TOTAL = 60


def test_blocks_are_given_out_in_order_from_the_front() -> None:
    spans = Spans(100, 10)
    claimed = [spans.claim(30) for _ in range(4)]
    assert [(one.start, one.stop) for one in claimed if one] == [(10, 40), (40, 70), (70, 100)]
    assert claimed[3] is None
    assert spans.unclaimed == 0


def test_the_front_moves_over_what_is_in_place_beyond_it() -> None:
    spans = Spans(100, 0)
    first, second = spans.claim(50), spans.claim(50)
    assert first
    assert second
    spans.wrote(second, 50)
    assert (spans.front, spans.in_place, spans.beyond) == (0, 50, [[50, 100]])
    spans.wrote(first, 20)
    assert (spans.front, spans.in_place) == (20, 70)
    spans.wrote(first, 30)
    assert spans.complete
    assert spans.beyond == []


def test_the_rest_of_what_is_given_up_is_given_out_again_first() -> None:
    spans = Spans(100, 0)
    first, second = spans.claim(40), spans.claim(40)
    assert first
    assert second
    spans.wrote(first, 10)
    spans.give_up(first)
    again = spans.claim(100)
    assert again
    assert (again.start, again.stop) == (10, 40)


def test_what_was_brought_before_an_end_is_not_given_out_after_it() -> None:
    spans = Spans(100, 0)
    first, second = spans.claim(40), spans.claim(30)
    assert first
    assert second
    spans.wrote(first, 10)
    spans.wrote(second, 5)
    later = Spans(100, spans.front, spans.beyond)
    gaps = []
    while (claimed := later.claim(100)) is not None:
        gaps.append((claimed.start, claimed.stop))
    assert (later.front, later.in_place) == (10, 15)
    assert gaps == [(10, 40), (45, 100)]


@given(st.data())
def test_spans_agree_with_a_set_of_bytes(data: st.DataObject) -> None:
    spans, there, held = Spans(TOTAL, 0), set[int](), list[Span]()
    for _ in range(data.draw(st.integers(1, 40))):
        what = data.draw(st.sampled_from(["claim", "write", "give up", "restart"]))
        if what == "claim":
            span = spans.claim(data.draw(st.integers(1, 20)))
            if span is not None:
                held.append(span)
        elif what == "write" and held:
            span = data.draw(st.sampled_from(held))
            count = data.draw(st.integers(0, span.left))
            fresh = set(range(span.at, span.at + count))
            assert not fresh & there, "a byte is brought twice"
            there |= fresh
            spans.wrote(span, count)
            held = [one for one in held if one.left]
        elif what == "give up" and held:
            spans.give_up(held.pop(data.draw(st.integers(0, len(held) - 1))))
        elif what == "restart":
            spans, held = Spans(TOTAL, spans.front, spans.beyond), []
        front = next((at for at in range(TOTAL) if at not in there), TOTAL)
        asked = {at for span in held for at in range(span.at, span.stop)}
        assert (spans.front, spans.in_place) == (front, len(there))
        assert {at for start, stop in spans.beyond for at in range(start, stop)} == {
            b for b in there if b >= front
        }
        bounds = [spans.front, *(bound for one in spans.beyond for bound in one)]
        assert bounds == sorted(set(bounds)), "two ranges that are one"
        assert spans.unclaimed == TOTAL - len(there | asked)
        assert spans.complete is (front == TOTAL)

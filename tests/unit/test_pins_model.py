from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.errors import InputError
from stager.model.durations import parse_duration
from stager.model.pins import MAX_REASON, Pin, check_reason, longest, parse_file_name

TEXT = st.text(max_size=40)
TIMES = st.floats(0, 1e12)
PINS = st.builds(Pin, st.just("a" * 64), TEXT, TEXT, TEXT, TIMES, st.none() | TIMES)


@given(PINS)
def test_a_pin_is_read_as_it_was_written(pin: Pin) -> None:
    assert Pin.from_json(pin.to_json()) == pin


@given(PINS)
def test_the_name_of_a_record_says_which_pin_it_is_of_and_until_when(pin: Pin) -> None:
    found = parse_file_name(pin.file_name)
    assert found is not None
    assert found[0] == pin.id
    assert (found[1] is None) == (pin.until is None)
    if pin.until is not None and found[1] is not None:
        assert 0 <= pin.until - found[1] < 1
        assert pin.is_over(found[1])
        assert not pin.is_over(found[1] - 1)


@given(TEXT)
def test_other_names_are_no_records(name: str) -> None:
    assert parse_file_name(name) is None


@given(st.lists(PINS, min_size=1))
def test_of_several_records_that_counts_which_lasts_longest_and_the_first_beginning(pins: list[Pin]) -> None:
    found = longest(pins)
    assert found.since == min(pin.since for pin in pins)
    if any(pin.until is None for pin in pins):
        assert found.until is None
    else:
        assert found.until == max(pin.until or 0.0 for pin in pins)


def test_holder_and_key_make_the_id_and_nothing_else_does() -> None:
    pin = Pin("a" * 64, "user:ada", "k", "why", 1.0, 2.0)
    assert pin.id == Pin("b" * 64, "user:ada", "k").id
    assert pin.id != Pin("a" * 64, "user:bob", "k").id
    assert pin.id != Pin("a" * 64, "user:ada", "l").id


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"version":2,"object":"a","holder":"b"}', b"\xff"])
def test_what_is_no_pin_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        Pin.from_json(text)


def test_a_reason_is_one_line() -> None:
    assert check_reason("for the paper") == "for the paper"
    for text in ("a\nb", "\x1b[2J", "x" * (MAX_REASON + 1)):
        with pytest.raises(InputError, match="reason"):
            check_reason(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("7d", 604_800), ("2 w", 1_209_600)]
)
def test_a_length_of_time_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "7 moons", "1e9d"])
def test_anything_else_is_no_length_of_time(text: str) -> None:
    with pytest.raises(InputError, match="no length of time"):
        parse_duration(text)

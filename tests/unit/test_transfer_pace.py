"""When an origin is too slow to go on with."""

from __future__ import annotations

from stager.transfer.pace import Pace


def test_an_origin_that_is_fast_enough_is_never_given_up() -> None:
    pace = Pace(silence=60, window=10, slowest=100)
    assert all(pace.waited(1, 100) is None for _ in range(1000))


def test_silence_is_given_up_after_its_time() -> None:
    pace = Pace(silence=3, window=1000, slowest=0)
    assert [pace.waited(1, 0) for _ in range(3)] == [None, None, "no byte in 3 s"]


def test_a_byte_now_and_then_is_no_silence() -> None:
    pace = Pace(silence=3, window=1000, slowest=0)
    assert all(pace.waited(1, number % 3 == 0) is None for number in range(100))


def test_a_trickle_is_given_up_at_the_end_of_the_window() -> None:
    pace = Pace(silence=60, window=10, slowest=100)
    told = [pace.waited(1, 99) for _ in range(10)]
    assert told[:9] == [None] * 9
    assert told[9] == "99 bytes/s over 10 s, less than 100"


def test_a_fast_start_does_not_excuse_a_slow_window_later() -> None:
    pace = Pace(silence=1000, window=10, slowest=100)
    assert pace.waited(10, 1_000_000) is None
    assert pace.waited(10, 10) is not None

from __future__ import annotations

from stager.transfer.streams import (
    FAST_BYTES_PER_SECOND,
    LEAST_BLOCK,
    MOST_BLOCK,
    READING_SECONDS,
    SETTLING_SECONDS,
    Streams,
)

LEFT = 10**12
MB = 10**6


class Clocked:
    """Streams of a file whose throughput is known."""

    def __init__(self, most: int = 6, total: int = LEFT) -> None:
        self.now, self.in_place = 0.0, 0
        self.streams = Streams(most, total, 0.0, 0)

    def passes(self, seconds: float, rate: float) -> int:
        self.now += seconds
        self.in_place += int(rate * seconds)
        return self.streams.read(self.now, self.in_place)


def on_trial(rate: float = 10 * MB) -> Clocked:
    clocked = Clocked()
    assert [clocked.passes(READING_SECONDS, rate) for _ in range(2)] == [1, 6]
    return clocked


def test_a_slow_steady_stream_is_helped() -> None:
    on_trial()


def test_streams_that_bring_more_are_kept_for_good() -> None:
    clocked = on_trial()
    assert clocked.passes(SETTLING_SECONDS, 40 * MB) == 6
    assert clocked.passes(1000, 1) == 6


def test_streams_that_bring_nothing_are_given_up_for_good() -> None:
    clocked = on_trial()
    assert clocked.passes(SETTLING_SECONDS, 11 * MB) == 1
    assert clocked.passes(1000, 1) == 1


def test_what_further_streams_bring_is_not_judged_before_they_are_fast() -> None:
    clocked = on_trial()
    assert clocked.passes(SETTLING_SECONDS / 2, 0) == 6


def test_a_stream_that_still_gets_faster_is_left_alone_for_a_while() -> None:
    clocked = Clocked()
    assert [clocked.passes(READING_SECONDS, rate * MB) for rate in (1, 2, 4, 8)] == [1, 1, 1, 6]


def test_a_fast_stream_is_left_alone() -> None:
    clocked = Clocked()
    assert clocked.passes(READING_SECONDS, FAST_BYTES_PER_SECOND) == 1
    assert clocked.passes(1000, 1) == 1


def test_what_will_be_over_soon_is_left_alone_unless_it_becomes_slow() -> None:
    clocked = Clocked(total=20 * MB)
    assert [clocked.passes(READING_SECONDS, 20 * MB) for _ in range(3)] == [1, 1, 1]
    assert clocked.passes(READING_SECONDS, MB) == 6


def test_a_silent_stream_tells_nothing() -> None:
    clocked = Clocked()
    assert [clocked.passes(READING_SECONDS, 0) for _ in range(9)] == [1] * 9


def test_blocks_take_some_seconds_and_become_small_in_the_end() -> None:
    clocked = on_trial()
    clocked.passes(SETTLING_SECONDS, 60 * MB)
    assert clocked.streams.block(LEFT) == 20 * MB
    assert clocked.streams.block(30 * MB) == 5 * MB
    assert clocked.streams.block(1) == LEAST_BLOCK
    clocked.streams.rate = 10**12
    assert clocked.streams.block(LEFT) == MOST_BLOCK

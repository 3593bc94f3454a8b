"""What an origin is given: how its limit and the portions of a seat follow what it does."""

from __future__ import annotations

import pytest

from stager.errors import (
    CacheFullError,
    CancelledError,
    ConnectionFailedError,
    DigestMismatchError,
    FetchError,
    HandedBackError,
    IncompleteError,
    OriginBusyError,
    OriginRefusedError,
    ProtocolError,
    RedirectError,
    StagerError,
    TlsError,
    UnprovenLengthError,
    WorkerLostError,
)
from stager.mapper.origins import FEWEST_TRIES, SEAT_BYTES, Origin, Verdict, judge

RESET = ConnectionFailedError("connection was reset")
BROKEN = OriginBusyError("server error", status=500)


def origin(maximum: int = 8) -> Origin:
    return Origin("http://a", maximum=maximum, small_bytes=1000)


def fail(one: Origin, error: StagerError = RESET, begun: int | None = None) -> None:
    one.failed(error, one.round if begun is None else begun, 0.0)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (OriginBusyError("busy", status=429), Verdict.OVERLOADED),
        (OriginBusyError("busy", status=503), Verdict.OVERLOADED),
        (OriginBusyError("busy", status=500, retry_after=3.0), Verdict.OVERLOADED),
        (RESET, Verdict.OVERLOADED),
        (BROKEN, Verdict.FAILS),
        (IncompleteError("short"), Verdict.FAILS),
        (ProtocolError("odd"), Verdict.FAILS),
        (OriginBusyError("not yet", status=202, retry_after=60.0), Verdict.COPES),
        (OriginRefusedError("no such file", status=404), Verdict.COPES),
        (DigestMismatchError("other bytes"), Verdict.COPES),
        (UnprovenLengthError("no length"), Verdict.COPES),
        (RedirectError("loop"), Verdict.COPES),
        (TlsError("unknown certificate"), Verdict.COPES),
        (HandedBackError("worker stops"), Verdict.NOTHING),
        (WorkerLostError("worker gone"), Verdict.NOTHING),
        (CacheFullError("no space"), Verdict.NOTHING),
        (CancelledError("cancelled"), Verdict.NOTHING),
        (FetchError("broke"), Verdict.NOTHING),
    ],
    ids=lambda value: value.what if isinstance(value, StagerError) else value.name,
)
def test_an_error_is_held_against_the_origin_only_if_it_is_its_own(
    error: StagerError, verdict: Verdict
) -> None:
    assert judge(error) is verdict


def test_overload_halves_the_limit_down_to_one() -> None:
    one = origin(7)
    limits = []
    for _ in range(4):
        fail(one)
        limits.append(one.limit)
    assert limits == [3, 1, 1, 1]


def test_tries_that_had_begun_before_a_step_down_cause_no_second_one() -> None:
    one = origin(8)
    for _ in range(8):
        fail(one, begun=0)
    assert one.limit == 4
    fail(one, begun=1)
    assert one.limit == 2


def test_as_many_successes_in_a_row_as_the_limit_add_one_up_to_the_maximum() -> None:
    one = origin(4)
    fail(one)
    limits = []
    for _ in range(7):
        one.succeeded(one.round)
        limits.append(one.limit)
    assert limits == [2, 3, 3, 3, 4, 4, 4]


def test_a_failure_begins_the_row_of_successes_anew() -> None:
    one = origin(4)
    fail(one)
    one.succeeded(one.round)
    fail(one, BROKEN)
    one.succeeded(one.round)
    assert one.limit == 2
    one.succeeded(one.round)
    assert one.limit == 3


def test_successes_that_had_begun_before_a_step_down_are_no_reason_for_a_step_up() -> None:
    one = origin(2)
    fail(one)
    one.succeeded(0)
    assert one.limit == 1


def test_a_success_rate_below_one_half_halves_the_limit() -> None:
    one = origin(8)
    for _ in range(FEWEST_TRIES // 2):
        one.succeeded(0)
        fail(one, BROKEN)
    assert one.limit == 8
    fail(one, BROKEN)
    assert one.limit == 4


def test_a_few_tries_make_no_rate_and_a_step_down_begins_a_new_one() -> None:
    one = origin(8)
    for _ in range(FEWEST_TRIES - 1):
        fail(one, BROKEN)
    assert one.limit == 8
    fail(one, BROKEN)
    assert one.limit == 4
    for _ in range(FEWEST_TRIES - 1):
        fail(one, BROKEN)
    assert one.limit == 4


def test_only_the_last_tries_make_the_rate() -> None:
    one = origin(8)
    for _ in range(100):
        one.succeeded(0)
    for _ in range(9):
        fail(one, BROKEN)
    assert one.limit == 4


def test_what_says_nothing_about_the_origin_changes_nothing() -> None:
    one = origin(8)
    for _ in range(50):
        fail(one, WorkerLostError("gone"))
    assert (one.limit, one.recent_failures, one.last_error) == (8, 0, "")


def test_that_there_is_no_such_file_counts_as_a_success() -> None:
    one = origin(2)
    fail(one)
    fail(one, OriginRefusedError("gone", status=404))
    assert (one.limit, one.recent_successes, one.recent_failures) == (2, 1, 1)


def test_a_pause_is_that_of_the_longest_retry_after_also_of_a_try_from_before_a_step_down() -> None:
    one = origin(8)
    busy = OriginBusyError("busy", status=429, retry_after=1.0)
    for until in (20.0, 30.0, 10.0):
        one.failed(busy, 0, until)
    assert (one.paused_until, one.limit, one.last_error) == (30.0, 4, "origin-busy")


def test_portions_double_while_small_files_complete() -> None:
    one = origin()
    portions = []
    for _ in range(5):
        portions.append(one.portion(20))
        for _ in range(portions[-1]):
            one.learn(10)
    assert portions == [1, 2, 4, 8, 16]
    assert one.portion(1) == 1


def test_an_origin_of_large_files_gives_one_at_a_time() -> None:
    one = origin()
    for _ in range(20):
        one.learn(10)
    one.learn(100_000)
    assert one.portion(20) == 1
    assert not one.is_small


def test_a_seat_carries_no_more_bytes_than_its_limit_by_the_mean_size() -> None:
    one = Origin("http://a", maximum=8, small_bytes=SEAT_BYTES)
    for _ in range(20):
        one.learn(SEAT_BYTES // 3)
    assert one.portion(20) == 3


def test_empty_files_are_small() -> None:
    one = origin()
    one.learn(0)
    assert one.portion(20) == 2

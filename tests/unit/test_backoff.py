from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.model.backoff import RetryPolicy

POLICY = RetryPolicy(attempts=4, first_seconds=1.0, factor=2.0, longest_seconds=10.0, deadline_seconds=100.0)


def test_point_61_the_wait_doubles_up_to_its_cap() -> None:
    assert [POLICY.delay(tries, jitter=1.0) for tries in range(1, 7)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_jitter_takes_away_up_to_half() -> None:
    assert POLICY.delay(2, jitter=0.0) == 1.0
    assert POLICY.delay(2, jitter=0.5) == 1.5


def test_the_origins_wish_is_not_undercut_but_capped() -> None:
    assert POLICY.delay(1, jitter=0.0, retry_after=7.0) == 7.0
    assert POLICY.delay(1, jitter=0.0, retry_after=3600.0) == 10.0
    assert POLICY.delay(4, jitter=1.0, retry_after=1.0) == 8.0
    assert POLICY.delay(1, jitter=1.0, retry_after=-5.0) == 1.0


@given(
    tries=st.integers(1, 10**9),
    jitter=st.floats(0, 1, exclude_max=True),
    retry_after=st.none() | st.floats(),
)
def test_a_wait_is_always_positive_and_never_beyond_the_cap(
    tries: int, jitter: float, retry_after: float | None
) -> None:
    assert 0 < POLICY.delay(tries, jitter=jitter, retry_after=retry_after) <= POLICY.longest_seconds


def test_it_gives_up_after_the_last_attempt() -> None:
    assert POLICY.next_try(3, started=0.0, now=50.0, jitter=1.0) == 54.0
    assert POLICY.next_try(4, started=0.0, now=50.0, jitter=1.0) is None


@pytest.mark.parametrize(("now", "expected"), [(99.0, 100.0), (99.1, None)])
def test_it_gives_up_when_the_next_try_would_be_past_the_deadline(now: float, expected: float | None) -> None:
    assert POLICY.next_try(1, started=0.0, now=now, jitter=1.0) == expected

"""Buckets that fill with time."""

from __future__ import annotations

import pytest

from stager.model.buckets import Buckets


def test_a_full_bucket_gives_its_burst_and_then_says_how_long_to_wait() -> None:
    buckets = Buckets(per_second=2.0, burst=3.0)
    assert [buckets.take("ada", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.take("ada", 0.0) == pytest.approx(0.5)
    assert buckets.take("ada", 0.25) == pytest.approx(0.25)
    assert buckets.take("ada", 0.5) == 0.0


def test_one_bucket_is_not_emptied_by_another_name() -> None:
    buckets = Buckets(per_second=1.0, burst=1.0)
    assert buckets.take("ada", 0.0) == 0.0
    assert buckets.take("eve", 0.0) == 0.0
    assert buckets.take("ada", 0.0) > 0.0


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    buckets = Buckets(per_second=1.0, burst=2.0)
    buckets.take("ada", 0.0)
    assert [buckets.take("ada", 1000.0) > 0 for _ in range(3)] == [False, False, True]


def test_there_are_never_more_than_the_most_and_those_in_use_stay() -> None:
    buckets = Buckets(per_second=1.0, burst=1.0, most=10)
    for number in range(100):
        buckets.take("eve", 0.0)
        buckets.take(f"address {number}", 0.0)
    assert len(buckets) == 10
    assert buckets.take("eve", 0.0) > 0.0

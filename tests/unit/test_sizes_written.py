from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.model.sizes import parse_size, written


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1001, "1.1kB"),
        (12_340_000_000, "12.4GB"),
        (2 * 10**15, "2PB"),
    ],
)
def test_a_size_is_written_short(count: int, text: str) -> None:
    assert written(count) == text


@given(st.integers(0, 10**17))
def test_what_is_written_is_read_again_and_not_less(count: int) -> None:
    assert count <= parse_size(written(count)) <= count * 1.1 + 1

"""Sizes, rates and parts as people write them."""

from __future__ import annotations

import pytest

from stager.errors import InputError
from stager.model.sizes import parse_part, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("100MB", 100_000_000),
        ("1.5 GB", 1_500_000_000),
        ("4GiB", 4 << 30),
        ("64k", 64_000),
        ("64Ki", 65_536),
        ("2tb", 2_000_000_000_000),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1e9", "1iB", "10 apples", "1 MB 2"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="write, for instance"):
        parse_size(text)


def test_a_rate_may_say_per_second() -> None:
    assert parse_rate("100MB/s") == parse_rate("100MB") == 100_000_000
    with pytest.raises(InputError, match="'fast' is no rate"):
        parse_rate("fast")


@pytest.mark.parametrize(("text", "part"), [("1%", 0.01), ("100%", 1.0), ("0.25", 0.25), ("12.5 %", 0.125)])
def test_a_part_is_a_percentage_or_a_fraction(text: str, part: float) -> None:
    assert parse_part(text) == pytest.approx(part)


@pytest.mark.parametrize("text", ["0", "0%", "101%", "2", "nan", "-1%", "some"])
def test_nothing_and_more_than_all_are_no_parts(text: str) -> None:
    with pytest.raises(InputError):
        parse_part(text)

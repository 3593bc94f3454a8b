"""How long a copy may be used without asking."""

from __future__ import annotations

import pytest

from stager.transfer.fields import parse_date, parse_retry_after
from stager.transfer.freshness import fresh_until

NOW = 784_111_777.0
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def lifetime(**headers: str) -> float:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return fresh_until(named, NOW, shortest=60, longest=86_400) - NOW


@pytest.mark.parametrize(
    "text",
    [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
    ids=["IMF", "850", "asctime"],
)
def test_point_48_a_date_is_read_in_each_of_its_three_forms(text: str) -> None:
    assert parse_date(text) == NOW


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 ovD 1994 08:49:37 GMT"]
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"cache_control": "max-age=600"}, 600),
        ({"cache_control": 'public, Max-Age="600"'}, 600),
        ({"cache_control": "max-age=600", "age": "100"}, 500),
        ({"cache_control": "max-age=600", "age": "700"}, 0),
        ({"cache_control": "max-age=600, s-maxage=30"}, 30),
        ({"cache_control": "max-age=600, must-revalidate"}, 600),
        ({"cache_control": "max-age=600", "expires": DATE, "date": DATE}, 600),
        ({"cache_control": "no-cache, max-age=600"}, 0),
        ({"cache_control": "no-store"}, 0),
        ({"cache_control": "max-age=soon"}, 0),
        ({"cache_control": "max-age=99999999999999999999"}, 3_155_760_000),
        ({"pragma": "no-cache"}, 0),
        ({"expires": "Sun, 06 Nov 1994 08:59:37 GMT", "date": DATE}, 600),
        ({"expires": "0"}, 0),
        ({"expires": "Sun, 06 Nov 1994 08:00:00 GMT", "date": DATE}, 0),
    ],
    ids=str,
)
def test_the_origins_word_is_taken(headers: dict[str, str], seconds: float) -> None:
    assert lifetime(**headers) == seconds


@pytest.mark.parametrize(
    ("modified", "seconds"),
    [
        ("Sun, 06 Nov 1994 06:49:37 GMT", 720),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 60),
        ("Sun, 06 Nov 1904 08:49:36 GMT", 86_400),
        ("Sun, 06 Nov 2094 08:49:36 GMT", 60),
        ("nonsense", 60),
    ],
)
def test_a_tenth_of_the_age_is_guessed_within_bounds(modified: str, seconds: float) -> None:
    assert lifetime(last_modified=modified, date=DATE) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("Sun, 06 Nov 1994 08:51:37 GMT", 120),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
        ("99999999", 86_400),
        ("soon", None),
        ("-5", None),
        (None, None),
    ],
)
def test_point_58_retry_after_is_seconds_or_a_date_and_capped(
    text: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(text, NOW) == seconds

from __future__ import annotations

import re
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from stager.errors import InputError
from stager.model import urls

HEADS = [
    "http://origin.test",
    "https://Origin.TEST:443",
    "http://127.0.0.1:8080",
    "http://me:pw@h",
    "http://[::1]:80",
]
HEADS += [
    "http://",
    "http://a b",
    "http://h:0",
    "http://h:99999",
    "HTTP://h",
    "http://h.",
    "http://xn--a",
    "http://ü.test",
]


def parsed(text: str) -> urls.Url | str:
    urls.parse_url.cache_clear()
    try:
        return urls.parse_url(text)
    except InputError as error:
        return str(error)


@given(st.sampled_from(HEADS), st.text(alphabet="aZ0._~!&;=:@/-%?#\\ ü\n", max_size=12))
@example(HEADS[0], "a/../b")
def test_the_quick_way_gives_what_the_thorough_one_gives(head: str, rest: str) -> None:
    text = f"{head}/{rest}"
    quick = parsed(text)
    with patch.object(urls, "_PLAIN", re.compile("(?!)")):
        assert quick == parsed(text)
    urls.parse_url.cache_clear()

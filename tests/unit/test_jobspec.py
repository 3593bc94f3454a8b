"""Inputs as they are written on the command line."""

from __future__ import annotations

import pytest

from stager.cli.jobspec import split_input
from stager.errors import InputError


@pytest.mark.parametrize(
    ("text", "url", "name"),
    [
        ("https://h/run7.nxs", "https://h/run7.nxs", "run7.nxs"),
        ("https://h/run7.nxs=in.nxs", "https://h/run7.nxs", "in.nxs"),
        ("https://h/=page", "https://h/", "page"),
        ("https://h=page", "https://h/", "page"),
        ("https://h/f?a=b", "https://h/f?a=b", "f"),
        ("https://h/f?a=b&c=d", "https://h/f?a=b&c=d", "f"),
        ("https://h/f?a=b;c=d", "https://h/f?a=b;c=d", "f"),
        ("https://h/f?a=b=run.nxs", "https://h/f?a=b", "run.nxs"),
        ("https://h/f?a=b&c=d=run.nxs", "https://h/f?a=b&c=d", "run.nxs"),
        ("https://h/f?flag=", "https://h/f?flag=", "f"),
        ("https://h/f?sig=YWI==", "https://h/f?sig=YWI==", "f"),
        ("https://h/f?next=/a/b", "https://h/f?next=/a/b", "f"),
        ("https://h/day=7/run.nxs", "https://h/day=7/run.nxs", "run.nxs"),
        ("https://h/day=7/run.nxs=x", "https://h/day=7/run.nxs", "x"),
        ("https://h/f=with space", "https://h/f", "with space"),
    ],
)
def test_the_last_equals_sign_parts_a_name_from_a_url_unless_the_query_owns_it(
    text: str, url: str, name: str
) -> None:
    found = split_input(text)
    assert (found.url, found.name) == (url, name)


@pytest.mark.parametrize("text", ["nonsense", "a=b", "https://h/", "https://h/f=..", "https://h/f=\x1b"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        split_input(text)

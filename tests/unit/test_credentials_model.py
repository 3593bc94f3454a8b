"""Scopes, kinds and what belongs to them."""

from __future__ import annotations

import pytest

from stager.errors import InputError
from stager.model.credential_scope import Scope
from stager.model.credentials import CredentialRow, Kind, NewCredential, narrowest
from stager.model.urls import parse_url


@pytest.mark.parametrize(
    ("pattern", "url", "covered"),
    [
        ("data.example.org", "https://data.example.org/x", True),
        ("Data.Example.ORG", "https://data.example.org/x", True),
        ("data.example.org", "http://data.example.org/x", True),  # whether it may travel is another question
        ("data.example.org", "https://data.example.org:8443/x", False),
        ("data.example.org:8443", "https://data.example.org:8443/x", True),
        ("data.example.org:8443", "https://data.example.org/x", False),
        ("data.example.org", "https://data.example.org.evil.net/x", False),
        ("data.example.org", "https://evildata.example.org/x", False),
        ("*.example.org", "https://data.example.org/x", True),
        ("*.example.org", "https://a.b.example.org/x", True),
        ("*.example.org", "https://example.org/x", False),
        ("*.example.org", "https://evilexample.org/x", False),
        ("*.example.org:444", "https://a.example.org:444/x", True),
        ("[::1]:8443", "https://[::1]:8443/x", True),
        ("münchen.example", "https://xn--mnchen-3ya.example/x", True),
    ],
)
def test_a_scope_covers_the_hosts_of_its_pattern_and_no_others(pattern: str, url: str, covered: bool) -> None:
    assert Scope(pattern).covers(parse_url(url), "ann") is covered


@pytest.mark.parametrize(
    "pattern",
    ["", "*", "*.", "*.org", "*.1.2", "*.127.0.0.1", "a*.example.org", "*.*.example.org", "example.org/x",
     "https://example.org", "ada:pw@example.org", "example.org:0", "example.org:99999", "exa mple.org"],
)  # fmt: skip
def test_what_is_no_pattern_is_refused_and_told_how_to_write_one(pattern: str) -> None:
    with pytest.raises(InputError) as caught:
        Scope(pattern)
    assert caught.value.remedy
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "path", "covered"),
    [
        ("/", "/anything?x=1", True),
        ("/data", "/data", True),
        ("/data", "/data/x", True),
        ("/data/", "/data/x", True),
        ("/data", "/database", False),
        ("/data", "/data/../etc", False),
        ("/data", "/data/%2e%2e/etc", False),
        ("/data", "/x?/data", False),
    ],
)
def test_a_prefix_is_of_whole_segments(prefix: str, path: str, covered: bool) -> None:
    assert Scope("h.example", prefix).covers(parse_url(f"https://h.example{path}"), "") is covered


def test_a_users_credential_is_for_that_user_alone_and_the_sites_for_everybody() -> None:
    url = parse_url("https://h.example/x")
    assert Scope("h.example", owner="ann").covers(url, "ann")
    assert not Scope("h.example", owner="ann").covers(url, "bob")
    assert not Scope("h.example", owner="ann").covers(url, "")
    assert Scope("h.example").covers(url, "bob")


def row(name: str, host: str, prefix: str = "/", owner: str = "") -> CredentialRow:
    return CredentialRow(name, Scope(host, prefix, owner), Kind.BEARER, {}, 1, 0.0, None)


def test_the_narrowest_comes_first() -> None:
    rows = [
        row("site-pattern", "*.h.example"),
        row("site-host", "a.h.example"),
        row("site-path", "a.h.example", "/deep"),
        row("user-pattern", "*.h.example", "/", "ann"),
        row("user-host", "a.h.example", "/", "ann"),
        row("user-path", "a.h.example", "/deep", "ann"),
        row("another", "a.h.example", "/deep", "bob"),
    ]
    found = narrowest(rows, parse_url("https://a.h.example/deep/x"), "ann")
    assert [one.id for one in found] == [
        "user-path", "user-host", "user-pattern", "site-path", "site-host", "site-pattern",
    ]  # fmt: skip


SECRET = "canary"


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (Kind.BASIC, {"password": SECRET}),
        (Kind.BASIC, {"user": "a:b", "password": SECRET}),
        (Kind.BASIC, {"user": "ada", "password": f"{SECRET}\r\nX: y"}),
        (Kind.BASIC, {"user": "ada", "password": SECRET, "token": SECRET}),
        (Kind.BEARER, {"token": ""}),
        (Kind.BEARER, {"token": f"{SECRET}\u20ac"}),
        (Kind.BEARER, {"token": SECRET * 20_000}),
        (Kind.HEADER, {"name": "Range", "value": SECRET}),
        (Kind.HEADER, {"name": "X Key", "value": SECRET}),
        (Kind.FORM, {"user": "ada", "password": SECRET, "login_url": "http://h.example/login"}),
        (Kind.OAUTH2_CLIENT, {"client_id": "me", "client_secret": SECRET, "token_url": "h.example"}),
        (
            Kind.OAUTH2_CLIENT,
            {
                "client_id": "me",
                "client_secret": SECRET,
                "token_url": "https://h.example",
                "client_auth": "x",
            },
        ),
    ],
)
def test_parts_that_can_not_be_are_refused_without_being_repeated(kind: Kind, parts: dict[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        NewCredential(Scope("h.example"), kind, parts)
    assert SECRET not in str(caught.value.to_dict())


@pytest.mark.parametrize("moment", [1e300, float("inf"), float("nan")])
def test_an_end_that_no_calendar_has_is_refused(moment: float) -> None:
    with pytest.raises(InputError, match="year 9999"):
        NewCredential(Scope("h.example"), Kind.BEARER, {"token": SECRET}, moment)


def test_a_new_credential_shows_no_secret() -> None:
    new = NewCredential(Scope("h.example"), Kind.BASIC, {"user": "ada", "password": SECRET})
    assert SECRET not in repr(new)
    assert new.public == {"user": "ada"}

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.errors import CacheError, LayoutVersionError
from stager.model.entries import ENTRY_VERSION, Entry, Validators

OBJECT = "ab" * 32
ENTRY = Entry(
    "https://h/a",
    OBJECT,
    7,
    1000.5,
    fresh_until=2000.0,
    url="https://h/a",
    validators=Validators('"v1"', "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 09:00:00 GMT"),
    content_type="text/plain",
    unproven=True,
)
some_text = st.none() | st.text()


@given(
    st.builds(
        Entry,
        key=st.text(),
        object=st.just(OBJECT),
        size=st.integers(0, 2**63),
        stored_at=st.floats(0, 1e12),
        fresh_until=st.none() | st.floats(0, allow_nan=False) | st.integers(0, 2**40),
        url=some_text,
        validators=st.builds(Validators, etag=some_text, last_modified=some_text, date=some_text),
        content_type=st.text(),
        content_encoding=st.text(),
        unproven=st.booleans(),
        restricted=st.booleans(),
        digests=st.lists(st.text()).map(tuple),
        sharing=st.sampled_from(["", "private", "no-store"]),
        name=st.text(),
    )
)
def test_an_entry_survives_its_json_form_which_is_one_line(entry: Entry) -> None:
    text = entry.to_json()
    assert Entry.from_json(text) == entry
    assert text.count(b"\n") == 1
    assert text.endswith(b"\n")
    plain = {"version": ENTRY_VERSION} | asdict(entry)  # every field, also one that is new
    for name in (
        "digests",
        "sharing",
        "name",
    ):  # written only when there is something, so that older versions read on
        if not plain[name]:
            del plain[name]
    assert text == json.dumps(plain, separators=(",", ":")).encode() + b"\n"


def altered(**changes: Any) -> bytes:
    return json.dumps(json.loads(ENTRY.to_json()) | changes).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 300,
        b"\xff\xfe",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b"[" * 100_000,
        ENTRY.to_json()[:-20],
        ENTRY.to_json() * 2,
        altered(version="one"),
        altered(version=None),
        altered(validators=None),
        altered(validators={"etag": "x", "more": 1}),
        altered(unknown=1),
        altered(size="7"),
        altered(size=-1),
        altered(size=None),
        altered(key=None),
        altered(object="../../../../etc/passwd"),
        altered(object=OBJECT.upper()),
        altered(object="sha256:" + OBJECT),
        altered(object=None),
    ],
)
def test_a_torn_or_damaged_entry_is_a_cache_error_and_nothing_else(text: bytes) -> None:
    with pytest.raises(CacheError):
        Entry.from_json(text)


def test_every_prefix_of_an_entry_is_refused() -> None:
    whole = ENTRY.to_json().rstrip()
    for length in range(len(whole)):
        with pytest.raises(CacheError):
            Entry.from_json(whole[:length])


def test_an_entry_from_the_future_says_to_upgrade() -> None:
    with pytest.raises(LayoutVersionError, match="upgrade"):
        Entry.from_json(altered(version=ENTRY_VERSION + 1, new_field=1))


def test_an_entry_is_fresh_until_its_time_and_for_ever_without_one() -> None:
    assert ENTRY.is_fresh(1999.9)
    assert not ENTRY.is_fresh(2000.0)
    assert Entry("k", OBJECT, 0, 0.0).is_fresh(1e12)


def test_a_confirmation_takes_over_new_validators_and_keeps_the_bytes() -> None:
    after = ENTRY.confirmed(now=3000.0, fresh_until=4000.0, validators=Validators(etag='"v2"'))
    assert (after.object, after.size, after.stored_at, after.fresh_until) == (OBJECT, 7, 3000.0, 4000.0)
    assert after.validators == Validators('"v2"', ENTRY.validators.last_modified, ENTRY.validators.date)
    assert ENTRY.stored_at == 1000.5


@pytest.mark.parametrize("etag", ['W/"v1"', "v1", "", '"', '"v1', None])
def test_only_a_whole_quoted_etag_is_strong(etag: str | None) -> None:
    assert Validators(etag=etag).strong_etag is None
    assert Validators(etag='"v1"').strong_etag == '"v1"'
    assert Validators(etag='""').strong_etag == '""'


def test_validators_are_true_only_if_something_can_be_asked_with_them() -> None:
    assert not Validators()
    assert not Validators(date="Sun, 06 Nov 1994 08:49:37 GMT")
    assert Validators(etag='W/"v1"')
    assert Validators(last_modified="Sun, 06 Nov 1994 08:49:37 GMT")

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.errors import InputError
from stager.model.keys import DIGEST_LENGTH, key_digest, parse_sha256

DIGEST = "0123456789abcdef" * 4


def test_the_digest_of_a_key_is_its_sha256() -> None:
    assert key_digest("https://h/ä") == hashlib.sha256("https://h/ä".encode()).hexdigest()


@given(st.text())
def test_any_text_can_be_a_key(text: str) -> None:
    assert len(key_digest(text)) == DIGEST_LENGTH


def test_keys_that_differ_in_an_unpaired_surrogate_differ() -> None:
    assert len({key_digest("\ud800"), key_digest("\ud801"), key_digest("?"), key_digest("")}) == 4


@pytest.mark.parametrize(
    "text", [DIGEST, DIGEST.upper(), f"sha256:{DIGEST}", f"SHA256:{DIGEST.upper()}", f" {DIGEST}\n"]
)
def test_a_digest_has_one_form(text: str) -> None:
    assert parse_sha256(text) == DIGEST


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", DIGEST[1:], DIGEST + "0", DIGEST[1:] + "g", f"md5:{DIGEST}", f"sha256: {DIGEST}", "\u0660" * 64, 5, b"0" * 64],
)  # fmt: skip
def test_what_is_not_a_digest_is_refused(text: Any) -> None:
    with pytest.raises(InputError):
        parse_sha256(text)

"""One cache on a real NFS share, used by two hosts."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from tests.support.pair import Pair

KEY = "https://h/run.nxs"
OTHER = "https://h/other.nxs"
TEXT = "counts"
SHA256 = sha256(TEXT.encode()).hexdigest()
QUESTIONS: dict[str, tuple[tuple[object, ...], Any, Any]] = {
    "get": ((KEY,), None, TEXT),
    "read": ((KEY,), None, TEXT),
    "lookup": ((KEY,), None, SHA256),
    "contains": ((KEY,), False, True),
    "has_object": ((SHA256, len(TEXT)), False, True),
    "pin": (("job", SHA256, len(TEXT)), None, TEXT),
}
"""Function: what it is asked, its answer as long as there is nothing, its answer afterwards."""


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("state", ["new", "used"])
def test_what_one_host_publishes_the_other_finds_at_once_although_it_looked_too_early(
    pair: Pair, question: str, state: str
) -> None:
    arguments, nothing, found = QUESTIONS[question]
    if state == "used":
        pair.ask(pair.first, "put", OTHER, "other")
        assert pair.ask(pair.second, "get", OTHER) == "other"
    assert pair.ask(pair.second, question, *arguments) == nothing
    pair.ask(pair.first, "put", KEY, TEXT)
    assert pair.ask(pair.second, question, *arguments) == found

"""Each of the 81 points of what a correct fetch honours is the name of a test."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
POINTS = range(1, 82)
NOT_YET: set[int] = set()
"""Without a test that is named by them; a point that gets one goes."""

_NAME = re.compile(r"def test_points?_(\d+)(?:_(to|and)_(\d+))?(?:_and_(\d+))?_")


def numbered() -> set[int]:
    found: set[int] = set()
    for path in TESTS.rglob("test_*.py"):
        for first, word, second, third in _NAME.findall(path.read_text("utf-8")):
            found.add(int(first))
            if word == "to":
                found.update(range(int(first), int(second) + 1))
            elif word:
                found.add(int(second))
            if third:
                found.add(int(third))
    return found


def test_each_point_has_a_test_that_is_named_by_it() -> None:
    missing = set(POINTS) - numbered()
    assert missing == NOT_YET, "a new one is missing, or one has a test now: take it out of the list"

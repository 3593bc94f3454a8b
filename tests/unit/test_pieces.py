from __future__ import annotations

from typing import Any

import pytest

from stager.transfer.pieces import PIECES_VERSION, Pieces, in_pieces
from stager.transfer.resume import SIDECAR_VERSION

PLAIN = {"version": SIDECAR_VERSION, "etag": '"1"', "total": 100}


def test_what_was_written_is_read() -> None:
    written = in_pieces(PLAIN, 10, [[20, 30], [40, 100]])
    assert Pieces.of(100, written) == Pieces(10, [[20, 30], [40, 100]], PLAIN)


def test_a_file_without_gaps_is_in_place_as_far_as_it_reaches() -> None:
    assert Pieces.of(70, PLAIN) == Pieces(70, (), PLAIN)
    assert Pieces.of(70, None) == Pieces(70, (), None)


def test_who_does_not_know_of_gaps_does_not_take_them_for_bytes() -> None:
    assert in_pieces(PLAIN, 10, [])["version"] == PIECES_VERSION != SIDECAR_VERSION


@pytest.mark.parametrize(
    ("front", "beyond"),
    [
        (0, [[20, 30]]),
        (-1, []),
        (True, []),
        ("10", []),
        (10, None),
        (10, [20, 30]),
        (10, [[20]]),
        (10, [[20, 30, 40]]),
        (10, [[30, 20]]),
        (10, [[5, 20]]),
        (10, [[20, 30], [30, 40]]),
        (10, [[20, 101]]),
        (101, []),
        (10, [[20.0, 30]]),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_worth_nothing(front: Any, beyond: Any) -> None:
    written = {**PLAIN, "version": PIECES_VERSION, "front": front, "beyond": beyond}
    assert Pieces.of(100, written) == Pieces(0, (), None)

"""Origins that mean ill hold no worker past its limits, and do not slow the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hostile import FIRST, KINDS, LIMIT_SECONDS, SILENCE_SECONDS, measure

LATE_SECONDS = 3.0
"""Beyond its limit: to notice it, to record it, and for a busy machine."""


@pytest.mark.parametrize("farm", ["threads", "aio"])
def test_hostile_origins_end_within_their_limits_and_do_not_slow_a_good_one(
    farm: str, tmp_path: Path
) -> None:
    measured = measure(tmp_path, farm)
    assert len(measured.ended) == FIRST * len(KINDS)
    for ended in measured.ended:
        assert ended.code == KINDS[ended.kind][1], ended
        assert ended.seconds < LIMIT_SECONDS + LATE_SECONDS, ended
    assert measured.beside < SILENCE_SECONDS, measured  # it waited for none of them
    assert measured.beside < 4 * measured.alone + 1.0, measured

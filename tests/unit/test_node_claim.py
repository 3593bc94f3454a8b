"""One node has a hand-over, and what can't be read is not taken for one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from stager.mapper.dispatch.claims import NodeClaim


def test_the_first_has_it_and_says_so_to_itself_and_to_others(tmp_path: Path) -> None:
    claim = NodeClaim(tmp_path, 1)
    assert claim.holder() is None
    assert claim.take("a") == "a"
    assert claim.take("a") == "a"
    assert claim.take("b") == "a"
    assert claim.holder() == "a"
    assert NodeClaim(tmp_path, 2).take("b") == "b"
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["1.claim", "2.claim"]


def test_a_claim_that_cannot_be_read_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "1.claim").touch()
    with pytest.raises(OSError, match="can't be read"):
        NodeClaim(tmp_path, 1).take("a")

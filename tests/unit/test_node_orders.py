"""Which process of a node looks after a job."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from stager.mapper.dispatch.node_orders import NodeOrders

ONE = "j", 1


def test_nobody_adopts_a_job_that_is_just_being_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = NodeOrders(tmp_path), NodeOrders(tmp_path)
    adopted = []
    lock = fcntl.flock

    def look_first(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        adopted.append(other.adopt())
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", look_first)
    assert mine.keep(ONE, "order")
    assert (adopted, other.adopt(), other.keep(ONE, "order")) == ([{}], {}, False)
    assert mine.keep(ONE, "again")
    mine.close()
    assert other.adopt() == {ONE: "again"}


def test_what_a_process_before_left_is_taken_over_and_what_it_had_begun_goes(tmp_path: Path) -> None:
    before = NodeOrders(tmp_path)
    assert before.keep(ONE, "order")
    before.close()
    (tmp_path / "k.1.4711.new").write_text("half an or")
    after = NodeOrders(tmp_path)
    assert after.keep(ONE, "the same")
    assert [path.name for path in tmp_path.iterdir()] == ["j.1.json"]
    assert after.jobs() == {"j"}
    after.forget(ONE)
    assert list(tmp_path.iterdir()) == []
    after.close()

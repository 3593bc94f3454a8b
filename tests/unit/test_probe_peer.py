"""What two probes make of what they tell each other, and of silence; on two hosts they are tested on NFS."""

from __future__ import annotations

from pathlib import Path

import pytest

from stager.cache.layout import PROBE
from stager.cache.probe import Verdict, peer, probe
from stager.cache.probe.line import Line, LostPeerError


@pytest.mark.parametrize(
    ("seconds", "helps", "verdict", "says"),
    [
        (0.0, True, Verdict.OK, "at once"),
        (31.04, True, Verdict.LIMITED, "unseen for 31.0 s"),
        (31.0, False, Verdict.UNFIT, "does not help"),
        (peer.LONGEST_STALE_SECONDS, True, Verdict.LIMITED, "or more"),
    ],
)
def test_names_seen_late_are_judged_by_whether_opening_the_directory_helps(
    monkeypatch: pytest.MonkeyPatch, seconds: float, verdict: Verdict, says: str, *, helps: bool
) -> None:
    monkeypatch.setattr(peer, "_unseen_for", lambda *_: seconds)
    monkeypatch.setattr(peer, "_seen_when_opened", lambda *_: helps)
    found = peer._stale(Line("/", "a", "b", patience=0), "/")
    assert found.verdict is verdict
    assert says in found.measured + found.why


def test_messages_arrive_in_order_and_silence_is_an_error(tmp_path: Path) -> None:
    first, second = (Line(str(tmp_path), *names, patience=0.05) for names in (("a", "b"), ("b", "a")))
    first.send(word="one")
    first.send(word="two")
    assert [second.receive()["word"], second.receive()["word"]] == ["one", "two"]
    with pytest.raises(LostPeerError, match="broke off"):
        second.receive()


@pytest.mark.parametrize(
    ("other", "says"),
    [("zzz-leads-nobody", "broke off"), ("0-leader-that-is-gone", "ended early")],
    ids=["a follower", "a leader"],
)
def test_a_peer_that_falls_silent_costs_what_takes_two_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, says: str
) -> None:
    monkeypatch.setattr(peer, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(peer, "meet", lambda *_: other)
    report = probe(tmp_path, quick=True, peer_seconds=1)
    for name in peer.PEER_QUESTIONS:
        assert report.finding(name).verdict is Verdict.NOT_MEASURED
        assert says in report.finding(name).measured
    assert report.finding("hard links").verdict is Verdict.OK
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(PROBE)]

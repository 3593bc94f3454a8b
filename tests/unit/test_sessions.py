"""Logins of the page: kept by digest, over in time, revoked with what they were made for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stager.clock import ManualClock
from stager.model.principals import SERVER_TOKEN, Principal, Role
from stager.server.pages import sessions as module
from stager.server.pages.sessions import LINK_SECONDS, SESSION_SECONDS, Sessions

ADA = Principal("ada", Role.OPERATOR, frozenset({"jobs"}), "t1")


def test_a_restart_logs_nobody_out_and_the_file_holds_no_word_that_would_let_one_in(tmp_path: Path) -> None:
    path, clock = tmp_path / "sessions.json", ManualClock()
    before = Sessions(clock, path)
    words = [before.open(ADA), before.open(SERVER_TOKEN)]
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not any(word in text for word in words)
    after = Sessions(clock, path)
    found = [after.find(word) for word in words]
    assert [one.principal for one in found if one] == [ADA, SERVER_TOKEN]
    assert [one.csrf for one in found if one] == [before.find(word).csrf for word in words]  # type: ignore[union-attr]
    after.close(words[0])
    assert Sessions(clock, path).find(words[0]) is None
    assert Sessions(clock, path).find(words[1]) is not None


def test_a_login_ends_in_time(tmp_path: Path) -> None:
    clock = ManualClock()
    sessions = Sessions(clock, tmp_path / "s")
    word = sessions.open(ADA)
    clock.advance(SESSION_SECONDS - 1)
    assert sessions.find(word) is not None
    clock.advance(1)
    assert sessions.find(word) is None
    sessions.open(SERVER_TOKEN)
    kept = json.loads((tmp_path / "s").read_text())["sessions"].values()
    assert [one["principal"]["name"] for one in kept] == ["server"], "what is over is not kept"


def test_who_may_not_come_in_any_more_is_out_at_once() -> None:
    allowed: list[Principal | None] = [ADA]
    sessions = Sessions(ManualClock(), still=lambda _: allowed[0])
    word = sessions.open(ADA)
    assert sessions.find(word) is not None
    allowed[0] = Principal("ada", Role.READER)
    found = sessions.find(word)
    assert found is not None
    assert found.principal.role is Role.READER
    allowed[0] = None
    assert sessions.find(word) is None


def test_another_token_of_the_server_ends_all_logins(tmp_path: Path) -> None:
    clock = ManualClock()
    word = Sessions(clock, tmp_path / "s", seal="old").open(ADA)
    assert Sessions(clock, tmp_path / "s", seal="old").find(word) is not None
    assert Sessions(clock, tmp_path / "s", seal="new").find(word) is None


@pytest.mark.parametrize("word", ["", "x", "\udcff", "é" * 4000])
def test_a_word_that_was_never_given_opens_nothing(word: str) -> None:
    sessions = Sessions(ManualClock())
    sessions.open(ADA)
    assert sessions.find(word) is None
    assert sessions.redeem(word) is None
    sessions.close(word)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"seal": 1}', '{"seal": null, "sessions": []}', "\0", '{"sessions": {"a": 1}}']
)
def test_a_file_that_is_damaged_lets_nobody_in_and_is_written_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s"
    path.write_text(text)
    sessions = Sessions(ManualClock(), path)
    word = sessions.open(ADA)
    assert sessions.find(word) is not None
    assert json.loads(path.read_text())["sessions"]


def test_a_login_link_is_good_once_and_not_for_long() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    word = sessions.link(ADA)
    assert sessions.redeem(word) == ADA
    assert sessions.redeem(word) is None
    late = sessions.link(ADA)
    clock.advance(LINK_SECONDS)
    assert sessions.redeem(late) is None


def test_logins_and_links_are_bounded_the_oldest_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 3)
    monkeypatch.setattr(module, "MOST_LINKS", 3)
    sessions = Sessions(ManualClock())
    words = [sessions.open(ADA) for _ in range(5)]
    assert [sessions.find(word) is not None for word in words] == [False, False, True, True, True]
    links = [sessions.link(ADA) for _ in range(5)]
    assert [sessions.redeem(link) is not None for link in links] == [False, False, True, True, True]


def test_a_directory_that_can_not_be_written_costs_only_the_next_start(tmp_path: Path) -> None:
    sessions = Sessions(ManualClock(), tmp_path / "gone" / "s")
    assert sessions.find(sessions.open(ADA)) is not None


def test_who_logs_in_again_and_again_ends_no_login_of_others() -> None:
    sessions = Sessions(ManualClock())
    bob = Principal("bob", Role.USER)
    word, link = sessions.open(ADA), sessions.link(ADA)
    words = [sessions.open(bob) for _ in range(module.MOST_OF_ONE + 1)]
    links = [sessions.link(bob) for _ in range(module.MOST_LINKS_OF_ONE + 1)]
    assert sessions.find(word) is not None
    assert sessions.redeem(link) == ADA
    assert [sessions.find(one) is not None for one in words] == [False] + [True] * module.MOST_OF_ONE
    assert [sessions.redeem(one) for one in links] == [None] + [bob] * module.MOST_LINKS_OF_ONE

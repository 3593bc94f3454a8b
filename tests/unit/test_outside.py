"""Objects with another name outside of the cache: they are not looked at again and again."""

from __future__ import annotations

from collections.abc import Generator
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pytest

from stager.cache import eviction
from stager.cache.aside import Aside
from stager.clock import ManualClock
from stager.model.eviction import Purge, Purged, Purging
from stager.service import outside
from stager.service.outside import HALF_SECONDS, Outside
from stager.settings import Settings
from stager.wiring.cache import build_cache_site


def digest(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def finished(work: Generator[Purging, None, Purged]) -> Purged:
    while True:
        try:
            next(work)
        except StopIteration as end:
            done: Purged = end.value
            return done


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "MANY", 2)


def test_what_a_job_or_a_pin_holds_is_not_remembered_since_that_may_be_over_at_once() -> None:
    found = Outside(lambda: {(1, 1)}, ManualClock())
    found.note(digest(1), (1, 1))
    found.note(digest(2), (1, 2))
    assert digest(1) not in found
    assert digest(2) in found


def test_it_is_forgotten_within_an_hour() -> None:
    clock = ManualClock()
    found = Outside(lambda: (), clock)
    for number in range(2):
        found.note(digest(number), (1, number))
    clock.advance(HALF_SECONDS)
    assert digest(0) in found.begin()
    clock.advance(HALF_SECONDS)
    assert digest(0) not in found.begin()


def test_it_is_not_remembered_while_nobody_can_tell_who_holds_what() -> None:
    def refuse() -> set[tuple[int, int]]:
        raise PermissionError

    found = Outside(refuse, ManualClock())
    for number in range(2):
        found.note(digest(number), (1, number))
    assert digest(0) not in found


def test_only_so_much_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "MOST", 3)
    found = Outside(lambda: (), ManualClock())
    for number in range(10):
        found.note(digest(number), (1, number))
    assert sum(digest(number) in found for number in range(10)) == 3


def test_imported_links_are_looked_at_once_while_others_go_and_a_purge_says_what_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s").mkdir()
    site = build_cache_site(Settings(cache_dir=tmp_path / "c", state_dir=tmp_path / "s", max_cache_bytes=1))
    for number in range(4):
        site.cache.put(f"linked{number}", str(number).encode())
        (tmp_path / f"own{number}").hardlink_to(site.cache.path(f"linked{number}"))
    for _ in site.files.rebuild():
        pass
    looked: list[str] = []
    look = eviction.Evictor._is_linked

    def counted(self: eviction.Evictor, one: eviction.Evicted, own: Aside) -> bool:
        looked.append(one.victim.object)
        return look(self, one, own)

    monkeypatch.setattr(eviction.Evictor, "_is_linked", counted)
    for _ in range(3):
        finished(site.eviction.enforce())
    assert len(looked) == 4
    (held,) = finished(site.eviction.purge(Purge(urls=("linked0",)))).left
    assert len(looked) == 5, "who names it is answered by a look"
    assert held.holders == ("another name outside of the cache (import --link)",)
    (tmp_path / "own0").unlink()
    finished(site.eviction.purge(Purge(urls=("linked0",))))
    assert site.cache.lookup("linked0") is None
    site.close()


def test_where_others_mount_the_directory_what_is_evicted_waits_in_the_trash_if_the_settings_say_so(
    tmp_path: Path,
) -> None:
    trash: Literal["auto", "always"]
    for trash, left in (("auto", 0), ("always", 1)):
        (tmp_path / f"s{trash}").mkdir()
        site = build_cache_site(
            Settings(cache_dir=tmp_path / trash, state_dir=tmp_path / f"s{trash}", trash=trash)
        )
        site.cache.put("k", b"data")
        for _ in site.files.rebuild():
            pass
        finished(site.eviction.purge(Purge(urls=("k",))))
        assert len([path for path in (tmp_path / trash / "trash").rglob("*") if path.is_file()]) == left
        site.close()

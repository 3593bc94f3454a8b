from __future__ import annotations

from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.clock import ManualClock
from stager.errors import ConflictError, InputError, NotFoundError
from stager.service.cache_pins import PinService

URL = "https://h.test/run7.nxs"
NOW = 4_000_000_000.0


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "c")


@pytest.fixture
def pins(cache: FileCache) -> PinService:
    return PinService(cache, ManualClock(NOW))


def test_a_file_is_pinned_by_its_url_its_key_or_its_digest(cache: FileCache, pins: PinService) -> None:
    one, two = cache.put(URL, b"one"), cache.put("model/7", b"two")
    by_url = pins.pin("https://H.test:443/run7.nxs", 60, reason="for the paper", owner="ada")
    assert (by_url.object, by_url.key, by_url.holder) == (one.object, URL, "user:ada")
    assert (by_url.since, by_url.until, by_url.reason) == (NOW, NOW + 60, "for the paper")
    assert pins.pin("model/7").object == two.object
    assert pins.pin(f"sha256:{two.object}").key == ""
    assert [pin.until for pin in pins.pins()] == [NOW + 60, None, None]
    assert {pin.key for pin in pins.pins(two.object)} == {"", "model/7"}
    assert [pin.id for pin in pins.pins(URL)] == [by_url.id]


def test_what_is_not_there_can_not_be_pinned_and_the_way_out_is_said(pins: PinService) -> None:
    for word in (URL, "model/7", "0" * 64):
        with pytest.raises(NotFoundError, match=r"not in the cache.*stager stage"):
            pins.pin(word)
    assert pins.pins() == []


def test_pinning_again_prolongs_and_a_shorter_time_changes_nothing(
    cache: FileCache, pins: PinService
) -> None:
    cache.put("k", b"data")
    first = pins.pin("k", 100, owner="ada")
    assert pins.pin("k", 900, owner="ada").until == NOW + 900
    assert pins.pin("k", 5, owner="ada").until == NOW + 900
    assert [pin.id for pin in pins.pins()] == [first.id]


def test_unpinning_a_file_takes_what_people_hold_and_says_what_it_was(
    cache: FileCache, pins: PinService
) -> None:
    entry = cache.put("k", b"data")
    ada, bob = pins.pin("k", owner="ada"), pins.pin("k", owner="bob")
    assert {pin.id for pin in pins.unpin("k")} == {ada.id, bob.id}
    assert cache.object_path(entry.object).stat().st_nlink == 1
    with pytest.raises(NotFoundError, match="not pinned"):
        pins.unpin("k")


def test_one_pin_is_taken_away_by_its_id(cache: FileCache, pins: PinService) -> None:
    cache.put("k", b"data")
    ada, bob = pins.pin("k", owner="ada"), pins.pin("k", owner="bob")
    assert [pin.id for pin in pins.unpin(ada.id)] == [ada.id]
    assert [pin.id for pin in pins.pins()] == [bob.id]


def test_what_a_stage_request_holds_ends_with_that_request(cache: FileCache, pins: PinService) -> None:
    cache.put(URL, b"data")
    held = pins.hold(URL, "stage:1abc", "staged", None)
    with pytest.raises(ConflictError, match=r"stage request 1abc.*stager unstage 1abc"):
        pins.unpin(URL)
    assert pins.release(held.object, held.id)
    assert pins.pins() == []


def test_what_a_key_held_when_it_was_pinned_stays_and_is_unpinned_under_that_key(
    cache: FileCache, pins: PinService
) -> None:
    old = cache.put("k", b"old")
    pin = pins.pin("k")
    cache.put("k", b"new")
    assert cache.has_object(old.object)
    assert [held.id for held in pins.pins("k")] == [pin.id]
    assert [gone.object for gone in pins.unpin("k")] == [old.object]


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 1e12])
def test_a_time_that_makes_no_sense_is_refused(seconds: float, cache: FileCache, pins: PinService) -> None:
    cache.put("k", b"data")
    with pytest.raises(InputError, match="time"):
        pins.pin("k", seconds)


def test_an_owner_or_reason_that_would_draw_on_a_terminal_is_refused(
    cache: FileCache, pins: PinService
) -> None:
    cache.put("k", b"data")
    with pytest.raises(InputError, match="owner"):
        pins.pin("k", owner="a b")
    with pytest.raises(InputError, match="reason"):
        pins.pin("k", reason="\x1b[2J")


def test_the_secrets_of_a_url_are_not_shown(cache: FileCache, pins: PinService) -> None:
    url = "https://h.test/x?token=verysecret"
    cache.put(url, b"data")
    assert "verysecret" not in pins.pin(url).key
    with pytest.raises(NotFoundError) as caught:
        pins.pin("https://h.test/y?token=verysecret")
    assert "verysecret" not in str(caught.value)
    assert [pin.key for pin in pins.unpin(url)] == ["https://h.test/x?token=***"]

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stager.cache import pin_files
from stager.cache.pin_files import LINK_SECONDS, PIN_LINK, PIN_OVER, PinFiles, tidy_pins
from stager.cache.pinned import is_pinned, pin_directory, pinned
from stager.cache.store import FileCache
from stager.cache.tree import Tree, open_tree
from stager.cache.upkeep import Upkeep
from stager.errors import CacheFullError, ObjectLostError
from stager.model.entries import Entry
from stager.model.pins import Pin

NOW = 2_000_000_000.0


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "c")


@pytest.fixture
def tree(cache: FileCache) -> Tree:
    return open_tree(cache.root, "2+2")


@pytest.fixture
def entry(cache: FileCache) -> Entry:
    return cache.put("k", b"data")


def ada(entry: Entry, until: float | None = None, key: str = "k") -> Pin:
    return Pin(entry.object, "user:ada", key, "for the paper", NOW, until)


def names(tree: Tree, sha256: str) -> list[str]:
    directory = Path(pin_directory(tree, sha256))
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def links(cache: FileCache, entry: Entry) -> int:
    return cache.object_path(entry.object).stat().st_nlink


def test_nothing_is_pinned_in_a_new_cache(tree: Tree, entry: Entry) -> None:
    assert pinned(tree, entry.object) == []
    assert not is_pinned(tree, entry.object)
    assert list(PinFiles(tree)) == []


def test_a_pin_says_who_why_and_until_when_and_gives_the_object_a_link(
    cache: FileCache, tree: Tree, entry: Entry
) -> None:
    pin = ada(entry, NOW + 7 * 86_400)
    PinFiles(tree).pin(pin)
    assert pinned(tree, entry.object, NOW) == [pin]
    assert links(cache, entry) == 2
    directory = cache.root / "pins"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert names(tree, entry.object) == [pin.file_name, "object"]


def test_a_pin_ends_by_itself_when_its_time_is_up(tree: Tree, entry: Entry) -> None:
    PinFiles(tree).pin(ada(entry, NOW + 10))
    assert is_pinned(tree, entry.object, NOW + 9)
    assert not is_pinned(tree, entry.object, NOW + 10)
    assert pinned(tree, entry.object, NOW + 10) == []


def test_on_a_host_whose_clock_is_fast_a_pin_does_not_end_early(
    cache: FileCache, tree: Tree, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    PinFiles(tree).pin(ada(entry, now + 600))
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    assert is_pinned(tree, entry.object)
    assert len(pinned(tree, entry.object)) == 1
    assert list(tidy_pins(tree)) == [""]
    assert links(cache, entry) == 2


def test_several_holders_of_one_object_are_counted_and_the_last_one_lets_it_go(
    cache: FileCache, tree: Tree, entry: Entry
) -> None:
    files = PinFiles(tree)
    one, two = ada(entry), Pin(entry.object, "stage:1", "https://h/x", since=NOW + 1)
    files.pin(one)
    files.pin(two)
    assert pinned(tree, entry.object) == [one, two]
    assert files.unpin(entry.object, one.id)
    assert links(cache, entry) == 2
    assert files.unpin(entry.object, two.id)
    assert links(cache, entry) == 1
    assert not Path(pin_directory(tree, entry.object)).exists()


def test_pinning_again_prolongs_and_never_cuts_short(tree: Tree, entry: Entry) -> None:
    files = PinFiles(tree)
    files.pin(ada(entry, NOW + 100))
    later = Pin(entry.object, "user:ada", "k", "still for the paper", NOW + 5, NOW + 900)
    files.pin(later)
    files.pin(ada(entry, NOW + 200))
    (found,) = pinned(tree, entry.object, NOW)
    assert (found.until, found.reason, found.since) == (NOW + 900, "still for the paper", NOW)
    files.pin(ada(entry))
    (found,) = pinned(tree, entry.object, NOW + 10_000)
    assert found.until is None
    assert files.unpin(entry.object, found.id)
    assert not is_pinned(tree, entry.object, NOW)


def test_what_is_not_in_the_cache_can_not_be_pinned(tree: Tree) -> None:
    with pytest.raises(ObjectLostError, match="not in the cache"):
        PinFiles(tree).pin(Pin("0" * 64, "user:ada"))
    assert names(tree, "0" * 64) == []


def test_unpinning_what_is_not_pinned_changes_nothing(tree: Tree, entry: Entry) -> None:
    files = PinFiles(tree)
    files.pin(ada(entry))
    assert not files.unpin(entry.object, "0" * 16)
    assert is_pinned(tree, entry.object)


def test_a_pinned_object_stays_when_its_key_is_removed(cache: FileCache, tree: Tree, entry: Entry) -> None:
    PinFiles(tree).pin(ada(entry))
    cache.remove("k")
    assert cache.has_object(entry.object)


def test_where_links_are_refused_the_record_alone_holds_the_object(
    cache: FileCache, tree: Tree, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        PinFiles(tree).pin(ada(entry))
    assert names(tree, entry.object) == [ada(entry).file_name]
    assert links(cache, entry) == 1
    cache.remove("k")
    assert cache.has_object(entry.object)
    assert PinFiles(tree).unpin(entry.object, ada(entry).id)
    assert names(tree, entry.object) == []


def test_a_full_disk_pins_nothing_and_says_so(
    tree: Tree, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheFullError, match="pin"):
        PinFiles(tree).pin(ada(entry))
    assert not is_pinned(tree, entry.object)


def test_upkeep_ends_what_is_over_and_leaves_the_rest(cache: FileCache, tree: Tree, entry: Entry) -> None:
    files = PinFiles(tree)
    other = cache.put("other", b"other")
    files.pin(ada(entry, NOW + 10))
    files.pin(ada(other))
    assert files.tidy(entry.object, NOW) == ""
    assert files.tidy(entry.object, NOW + 10) == PIN_OVER
    assert names(tree, entry.object) == []
    assert links(cache, entry) == 1
    assert list(tidy_pins(tree)) == [""]
    assert is_pinned(tree, other.object)


def test_upkeep_removes_one_of_two_records_and_the_link_stays(
    cache: FileCache, tree: Tree, entry: Entry
) -> None:
    files = PinFiles(tree)
    files.pin(ada(entry, NOW + 10))
    files.pin(ada(entry, key="another name"))
    assert files.tidy(entry.object, NOW + 20) == PIN_OVER
    assert links(cache, entry) == 2
    assert len(names(tree, entry.object)) == 2


def test_a_link_without_a_record_goes_after_an_hour_and_not_before(
    cache: FileCache, tree: Tree, entry: Entry
) -> None:
    directory = Path(pin_directory(tree, entry.object))
    directory.mkdir(parents=True)
    os.link(cache.object_path(entry.object), directory / "object")
    (directory / ".object.gone").touch()
    changed = directory.stat().st_mtime
    files = PinFiles(tree)
    assert files.tidy(entry.object, changed + LINK_SECONDS - 1) == ""
    assert links(cache, entry) == 2
    assert files.tidy(entry.object, changed + LINK_SECONDS + 1) == PIN_LINK
    assert links(cache, entry) == 1
    assert not directory.exists()


def test_an_object_that_was_damaged_and_fetched_again_is_held_once_more(
    cache: FileCache, tree: Tree, entry: Entry
) -> None:
    files = PinFiles(tree)
    files.pin(ada(entry))
    cache.object_path(entry.object).unlink()
    cache.put("k", b"data")
    assert links(cache, entry) == 1
    assert files.tidy(entry.object, NOW) == PIN_LINK
    assert links(cache, entry) == 2
    assert files.tidy(entry.object, NOW) == ""


def test_a_record_that_can_not_be_read_holds_the_object_until_somebody_looks(
    tree: Tree, entry: Entry
) -> None:
    pin = ada(entry)
    files = PinFiles(tree)
    files.pin(pin)
    Path(pin_directory(tree, entry.object), pin.file_name).write_bytes(b"{")
    (found,) = pinned(tree, entry.object)
    assert found.until is None
    assert "can't be read" in found.reason


def test_an_evictor_that_was_overtaken_by_a_pin_brings_the_object_back(
    cache: FileCache, tree: Tree, entry: Entry
) -> None:
    files = PinFiles(tree)
    files.pin(ada(entry))
    cache.object_path(entry.object).unlink()
    assert files.bring_back(entry.object)
    assert cache.object_path(entry.object).read_bytes() == b"data"
    assert files.bring_back(entry.object)
    files.unpin(entry.object, ada(entry).id)
    assert not files.bring_back(entry.object)


def test_a_pin_during_whose_making_the_object_was_evicted_is_refused_and_leaves_nothing(
    cache: FileCache, tree: Tree, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evict(step: str) -> None:
        if step == "pin.recorded":
            cache.object_path(entry.object).unlink(missing_ok=True)

    monkeypatch.setattr(pin_files, "reached", evict)
    with pytest.raises(ObjectLostError):
        PinFiles(tree).pin(ada(entry))
    assert names(tree, entry.object) == []


@pytest.mark.parametrize("step", ["unpin.removed", "unpin.aside"])
def test_who_unpins_while_another_one_pins_leaves_the_other_ones_pin_with_its_link(
    step: str, cache: FileCache, tree: Tree, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = ada(entry), Pin(entry.object, "user:bob", "k", since=NOW)
    files = PinFiles(tree)
    files.pin(mine)

    def overtake(reached: str) -> None:
        if reached == step:
            monkeypatch.setattr(pin_files, "reached", lambda _: None)
            PinFiles(tree).pin(other)

    monkeypatch.setattr(pin_files, "reached", overtake)
    assert files.unpin(entry.object, mine.id)
    assert pinned(tree, entry.object) == [other]
    assert links(cache, entry) == 2
    assert names(tree, entry.object) == [other.file_name, "object"]


@pytest.mark.parametrize("step", ["pin.linked", "pin.recorded"])
def test_who_pins_while_another_one_unpins_has_a_pin_with_its_link(
    step: str, cache: FileCache, tree: Tree, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = ada(entry), Pin(entry.object, "user:bob", "k", since=NOW)
    files = PinFiles(tree)
    files.pin(other)

    def overtake(reached: str) -> None:
        if reached == step:
            monkeypatch.setattr(pin_files, "reached", lambda _: None)
            PinFiles(tree).unpin(entry.object, other.id)

    monkeypatch.setattr(pin_files, "reached", overtake)
    files.pin(mine)
    assert pinned(tree, entry.object) == [mine]
    assert links(cache, entry) == 2


def test_the_rounds_of_upkeep_look_at_pins_too(cache: FileCache, tree: Tree, entry: Entry) -> None:
    PinFiles(tree).pin(Pin(entry.object, "user:ada", "k", until=1_000_000_000.0))
    assert Upkeep(cache.root).step(100)[PIN_OVER] == 1
    assert links(cache, entry) == 1


def test_the_name_of_a_record_is_durable_before_the_pin_is_acknowledged(
    tree: Tree, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable: set[str] = set()
    fsync = os.fsync

    def noting(fd: int) -> None:
        fsync(fd)
        path = Path(f"/proc/self/fd/{fd}").resolve()
        if path.is_dir():
            durable.update(one.name for one in path.iterdir())

    monkeypatch.setattr(os, "fsync", noting)
    pin = ada(entry)
    PinFiles(tree).pin(pin)
    assert pin.file_name in durable


@pytest.mark.parametrize("owner", ["elsewhere-0000aaaa-1-1-0", "also.broken"])
def test_an_eviction_that_has_not_moved_for_a_minute_is_not_waited_for(
    cache: FileCache, tree: Tree, entry: Entry, owner: str
) -> None:
    left = cache.root / f"trash/entries.{owner}"
    left.mkdir(parents=True)
    changed = left.stat().st_mtime - pin_files.EVICTION_SECONDS - 1
    os.utime(left, (changed, changed))
    began = time.monotonic()
    PinFiles(tree).pin(ada(entry))
    assert time.monotonic() - began < pin_files.EVICTION_SECONDS / 2


def test_an_eviction_that_goes_on_is_waited_for(cache: FileCache, tree: Tree, entry: Entry) -> None:
    going_on = cache.root / "trash/entries.elsewhere-0000aaaa-1-1-0"
    going_on.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        pinning = pool.submit(PinFiles(tree).pin, ada(entry))
        with pytest.raises(TimeoutError):
            pinning.result(timeout=0.3)
        going_on.rmdir()
        pinning.result(timeout=30)

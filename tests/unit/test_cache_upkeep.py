"""What nobody will ask for again is cleared away, a piece at a time; what is young or owned stays."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from stager.cache.orphans import (
    ENTRY,
    FILE,
    FOREIGN_SECONDS,
    PARTIAL_SECONDS,
    QUARANTINE_SECONDS,
    THROWN,
    TRASH_SECONDS,
    YOUNG_SECONDS,
)
from stager.cache.owner import here
from stager.cache.store import FileCache
from stager.cache.upkeep import Upkeep
from stager.errors import CacheGoneError

DEAD = f"{here()}-999999999-1-0"
ELSEWHERE = "other-00000000-1-1-0"


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


def age(path: Path, seconds: float) -> Path:
    now = path.stat().st_mtime - seconds
    os.utime(path, (now, now))
    return path


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def step(cache: FileCache, names: int = 1000) -> Counter[str]:
    return Upkeep(cache.root).step(names)


def lost_entry(cache: FileCache, key: str) -> Path:
    entry = cache.put(key, b"data of " + key.encode())
    cache.object_path(entry.object).unlink()
    (path,) = (p for p in (cache.root / "entries").rglob("*.json") if entry.object in p.read_text())
    return path


def test_an_entry_whose_object_is_gone_goes_too_unless_it_is_young(cache: FileCache) -> None:
    cache.put("kept", b"kept")
    old, young = lost_entry(cache, "old"), lost_entry(cache, "young")
    age(old, YOUNG_SECONDS + 60)
    assert step(cache) == Counter({ENTRY: 1})
    assert not old.exists()
    assert young.exists()
    assert cache.get("kept") is not None


def test_an_old_entry_with_its_object_stays(cache: FileCache) -> None:
    cache.put("kept", b"kept")
    (path,) = (cache.root / "entries").rglob("*.json")
    age(path, YOUNG_SECONDS * 10)
    assert step(cache) == Counter()
    assert cache.get("kept") is not None


@pytest.mark.parametrize(
    ("name", "seconds", "goes"),
    [
        (f"{'a' * 64}.1.{DEAD}.part", PARTIAL_SECONDS + 60, True),
        (f"{'a' * 64}.1.{DEAD}.part", PARTIAL_SECONDS - 60, False),
        (f"{'a' * 64}.1.{DEAD}.json", PARTIAL_SECONDS + 60, True),
        (f"{'a' * 64}.1.{DEAD}.json.new", 0, True),
        (f"{'a' * 64}.{DEAD}.tmp", 0, True),
        (f"{'a' * 64}.1.{ELSEWHERE}.part", FOREIGN_SECONDS - 60, False),
        (f"{'a' * 64}.1.{ELSEWHERE}.part", FOREIGN_SECONDS + 60, True),
    ],
)
def test_a_partial_file_goes_when_nobody_can_want_it(
    cache: FileCache, name: str, seconds: float, goes: bool
) -> None:
    path = age(made(cache.root / "partial" / "aa" / name), seconds)
    assert step(cache) == (Counter({FILE: 1}) if goes else Counter())
    assert path.exists() is not goes


def test_the_partial_file_of_a_living_owner_stays_however_old(cache: FileCache) -> None:
    partial = cache.claim_partial("key")
    age(partial.path, FOREIGN_SECONDS * 2)
    assert step(cache) == Counter()
    assert partial.path.exists()
    partial.discard()


def test_a_draft_of_an_entry_goes_with_its_dead_writer(cache: FileCache) -> None:
    cache.put("kept", b"kept")
    (path,) = (cache.root / "entries").rglob("*.json")
    draft = made(Path(f"{path}.{DEAD}"))
    foreign = made(Path(f"{path}.{ELSEWHERE}"))
    assert step(cache) == Counter({FILE: 1})
    assert not draft.exists()
    assert foreign.exists()


@pytest.mark.parametrize("make", [made, lambda path: made(path / "object").parent])
def test_trash_goes_when_its_grace_is_over(cache: FileCache, make: Callable[[Path], Path]) -> None:
    old = age(make(cache.root / "trash" / "2024-01-01"), TRASH_SECONDS + 60)
    young = make(cache.root / "trash" / "today")
    assert step(cache) == Counter({THROWN: 1})
    assert not old.exists()
    assert young.exists()


def test_a_step_looks_at_so_many_names_and_the_next_one_goes_on(cache: FileCache) -> None:
    for number in range(10):
        age(lost_entry(cache, f"key{number}"), YOUNG_SECONDS + 60)
    upkeep = Upkeep(cache.root)
    found = [upkeep.step(7)[ENTRY] for _ in range(4)]
    assert sum(found) == 10
    assert max(found) <= 7
    assert cache.get("key0") is None


def test_what_was_found_damaged_can_be_looked_at_for_a_month(cache: FileCache) -> None:
    old = made(cache.root / "trash" / "2024-01-01" / "damaged-x").parent
    recent = made(cache.root / "trash" / "2024-01-02" / "damaged-y").parent
    age(old, QUARANTINE_SECONDS + 60)
    age(recent, QUARANTINE_SECONDS - 60)
    assert step(cache) == Counter({THROWN: 1})
    assert not old.exists()
    assert recent.exists()


def test_an_entry_is_as_old_as_the_clock_of_the_file_system_says(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    young = lost_entry(cache, "young")
    monkeypatch.setattr("time.time", lambda: young.stat().st_mtime + 10 * YOUNG_SECONDS)
    assert step(cache) == Counter()
    assert young.exists()


def test_a_cache_that_is_gone_has_no_lost_entries(cache: FileCache) -> None:
    for number in range(5):
        age(lost_entry(cache, f"key{number}"), YOUNG_SECONDS + 60)
    upkeep = Upkeep(cache.root)
    assert upkeep.step(2)[ENTRY] == 2
    cache.root.rename(cache.root.with_name("away"))
    cache.root.mkdir()
    with pytest.raises(CacheGoneError):
        upkeep.step(100)
    cache.root.rmdir()
    cache.root.with_name("away").rename(cache.root)
    assert upkeep.step(100)[ENTRY] == 3

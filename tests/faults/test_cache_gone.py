"""A cache that is unmounted, moved away or hidden by another one: nothing is written elsewhere, and it comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.errors import CacheGoneError, ObjectLostError
from stager.model.entries import Entry
from tests.support.mounts import mounted, move, unmount


def contents(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


WRITES: list[Callable[[FileCache], object]] = [
    lambda cache: cache.put("new", b"new"),
    lambda cache: cache.claim_partial("new"),
    lambda cache: cache.publish_bytes("new", b"new", "0" * 64),
    lambda cache: cache.record(Entry("new", "0" * 64, 3, 0.0)),
    lambda cache: cache.job_dir("job"),
    lambda cache: cache.remove("kept"),
    lambda cache: cache.open("new", "wb"),
]


def check_that_nothing_is_written(cache: FileCache, cause: str) -> None:
    before = contents(cache.root)
    for write in WRITES:
        with pytest.raises(CacheGoneError, match=cause):
            write(cache)
    with pytest.raises(CacheGoneError):
        cache.pin("job", "input", cache_object(b"kept"), 4)
    assert contents(cache.root) == before


def cache_object(data: bytes) -> str:
    from hashlib import sha256

    return sha256(data).hexdigest()


def check_that_all_is_back(cache: FileCache) -> None:
    cache.check()
    assert cache.path("kept").read_bytes() == b"kept"
    cache.put("later", b"later")
    assert cache.path("later").read_bytes() == b"later"
    assert cache.pin("job", "input", cache_object(b"kept"), 4).read_bytes() == b"kept"


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    cache = FileCache(tmp_path / "cache")
    cache.put("kept", b"kept")
    return cache


def test_a_directory_that_is_moved_away_and_back(cache: FileCache) -> None:
    away = cache.root.with_name("away")
    cache.root.rename(away)
    with pytest.raises(CacheGoneError, match="unmounted, moved or deleted"):
        cache.put("new", b"new")
    assert not cache.root.exists()
    away.rename(cache.root)
    check_that_all_is_back(cache)


def test_a_layout_file_that_is_not_there_for_a_moment_is_no_cache_that_is_gone(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS server may say so while another host replaces it."""
    file = cache.root / "layout.json"
    file.rename(cache.root / "aside")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            (cache.root / "aside").rename(file)

    monkeypatch.setattr("stager.cache.layout_file.time.sleep", pause)
    check_that_all_is_back(cache)
    assert len(pauses) == 2
    file.rename(cache.root / "aside")
    before = contents(cache.root)
    with pytest.raises(CacheGoneError, match="unmounted, moved or deleted"):
        cache.put("another", b"new")
    assert contents(cache.root) == before


def test_an_empty_directory_in_its_place_stays_empty(cache: FileCache) -> None:
    away = cache.root.with_name("away")
    cache.root.rename(away)
    cache.root.mkdir()
    check_that_nothing_is_written(cache, "unmounted, moved or deleted")
    assert contents(cache.root) == []
    cache.root.rmdir()
    away.rename(cache.root)
    check_that_all_is_back(cache)


def test_another_cache_in_its_place_is_left_alone(cache: FileCache) -> None:
    away = cache.root.with_name("away")
    cache.root.rename(away)
    other = FileCache(cache.root)
    other.put("kept", b"of another cache")
    check_that_nothing_is_written(cache, "another cache")
    assert other.path("kept").read_bytes() == b"of another cache"
    other.root.rename(other.root.with_name("other"))
    away.rename(cache.root)
    check_that_all_is_back(cache)


def test_a_file_in_its_place(cache: FileCache) -> None:
    away = cache.root.with_name("away")
    cache.root.rename(away)
    cache.root.write_bytes(b"")
    with pytest.raises(CacheGoneError):
        cache.check()
    cache.root.unlink()
    away.rename(cache.root)
    check_that_all_is_back(cache)


def test_a_cache_of_a_newer_program_in_its_place(cache: FileCache) -> None:
    away = cache.root.with_name("away")
    cache.root.rename(away)
    cache.root.mkdir()
    (cache.root / "layout.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(CacheGoneError, match="version 99"):
        cache.check()


def test_a_copy_put_back_by_an_administrator_is_the_same_cache(cache: FileCache, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(cache.root, tmp_path / "copy", symlinks=True)
    cache.root.rename(tmp_path / "old")
    (tmp_path / "copy").rename(cache.root)
    check_that_all_is_back(cache)


def test_a_cache_made_before_there_were_ids_is_believed_by_its_layout(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    FileCache(root).put("kept", b"kept")
    says = json.loads((root / "layout.json").read_text())
    del says["id"]
    (root / "layout.json").write_text(json.dumps(says))
    cache = FileCache(root)
    (root / "layout.json").write_text(json.dumps(says, indent=1))
    check_that_all_is_back(cache)
    root.rename(tmp_path / "away")
    with pytest.raises(CacheGoneError):
        cache.check()


def test_an_object_that_is_missing_in_the_right_cache_is_lost(cache: FileCache) -> None:
    cache.path("kept").unlink()
    with pytest.raises(ObjectLostError):
        cache.pin("job", "input", cache_object(b"kept"), 4)


def test_a_share_that_is_unmounted_and_mounted_again(tmp_path: Path) -> None:
    root = tmp_path / "mnt"
    with mounted(root):
        cache = FileCache(root)
        cache.put("kept", b"kept")
        move(root, tmp_path / "elsewhere")
        try:
            check_that_nothing_is_written(cache, "unmounted, moved or deleted")
            assert contents(root) == []
            move(tmp_path / "elsewhere", root)
            check_that_all_is_back(cache)
        finally:
            unmount(tmp_path / "elsewhere")


def test_another_cache_mounted_over_it(tmp_path: Path) -> None:
    root = tmp_path / "mnt"
    with mounted(root):
        cache = FileCache(root)
        cache.put("kept", b"kept")
        with mounted(root):
            check_that_nothing_is_written(cache, "unmounted, moved or deleted")
            FileCache(root).put("kept", b"of another cache")
            check_that_nothing_is_written(cache, "another cache")
        assert cache.root.is_dir()


def test_what_was_hidden_by_another_mount_is_back_when_that_goes(tmp_path: Path) -> None:
    root = tmp_path / "a" / "mnt"
    cache = FileCache(root)
    cache.put("kept", b"kept")
    with mounted(root.parent), pytest.raises(CacheGoneError):
        cache.check()
    check_that_all_is_back(cache)

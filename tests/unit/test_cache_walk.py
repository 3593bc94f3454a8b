"""Reading the tree: in every layout, in two at once, and whatever is wrong in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache import walk_many
from stager.cache.holders import held_bytes, jobs_holding
from stager.cache.layout import ENTRIES, Layout
from stager.cache.layout_file import change_layouts
from stager.cache.store import FileCache
from stager.cache.upkeep import Upkeep
from stager.cache.walk import PIECE, Seen, TreeReader
from stager.cache.walk_many import read_entries
from stager.errors import CacheError, NotACacheError
from stager.model.keys import key_digest


def keys(reader: TreeReader) -> list[str]:
    return sorted(row[1] for part in reader.parts("entries") for rows in reader.entries(part) for row in rows)


def objects(reader: TreeReader) -> list[Seen]:
    return [one for part in reader.parts("objects") for seen in reader.objects(part) for one in seen]


@pytest.mark.parametrize("shards", ["2+2", "flat", "4", "1+1+1"])
def test_all_files_are_met_in_every_layout(tmp_path: Path, shards: str) -> None:
    cache = FileCache(tmp_path / "cache", shards=shards)
    for n in range(20):
        cache.put(f"k{n:02}", str(n % 7).encode())
        cache.get(f"k{n:02}")  # makes the link beside the entry
    reader = TreeReader(cache.root)
    assert keys(reader) == [f"k{n:02}" for n in range(20)]
    assert sorted(one.sha256 for one in objects(reader)) == sorted(
        sha256(str(n).encode()).hexdigest() for n in range(7)
    )


def test_files_of_a_previous_layout_are_met_too(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.put("old", b"old")
    change_layouts(str(cache.root), lambda layouts: layouts.towards(Layout("4")))
    FileCache(cache.root).put("new", b"new")
    reader = TreeReader(cache.root)
    assert keys(reader) == ["new", "old"]
    assert len(objects(reader)) == 2
    assert set(reader.rows([key_digest("old"), key_digest("new"), key_digest("none")])) == {
        key_digest("old"), key_digest("new"),
    }  # fmt: skip
    assert [one.sha256 for one in reader.beginning(sha256(b"old").hexdigest()[:7])] == [
        sha256(b"old").hexdigest()
    ]


def test_a_directory_with_more_names_than_a_piece_comes_in_pieces(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", shards="flat")
    for n in range(PIECE // 2 + 10):
        cache.put(f"k{n}", b"same")
        cache.get(f"k{n}")
    reader = TreeReader(cache.root)
    (part,) = reader.parts("entries")
    pieces = list(reader.entries(part))
    assert sum(len(rows) for rows in pieces) == PIECE // 2 + 10
    assert max(len(rows) for rows in pieces) <= 2 * PIECE


@pytest.mark.parametrize(
    "damage", ["torn", "newer", "no object", "other size", "a directory", "list", "foreign"]
)
def test_what_nobody_can_use_is_passed_over(tmp_path: Path, damage: str) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.put("good", b"good")
    entry = cache.put("bad", b"bad")
    path = Path(cache.tree.entry(key_digest("bad")))
    match damage:
        case "torn":
            os.truncate(path, 30)
        case "newer":
            path.write_text(path.read_text().replace('"version":1', '"version":99'))
        case "no object":
            cache.object_path(entry.object).unlink()
        case "other size":
            cache.object_path(entry.object).chmod(0o644)
            os.truncate(cache.object_path(entry.object), 1)
        case "a directory":
            cache.object_path(entry.object).unlink()
            cache.object_path(entry.object).mkdir()
        case "list":
            path.write_text("[1, 2]")
        case _:
            path.rename(path.with_name("notes.txt"))
            (cache.root / "entries" / "README").write_text("hello")
    assert keys(TreeReader(cache.root)) == ["good"]


def test_who_holds_an_object_is_found_by_its_links(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache")
    entry = cache.put("k", b"12345")
    cache.put("other", b"1")
    for job in ("j2", "j1"):
        cache.job_dir(job)
        cache.pin(job, "in.dat", entry.object, 5)
    assert jobs_holding(cache.tree, entry.object) == [("j1", "in.dat"), ("j2", "in.dat")]
    assert held_bytes(cache.tree) == 5
    cache.unpin("j1")
    cache.unpin("j2")
    assert jobs_holding(cache.tree, entry.object) == []
    assert held_bytes(cache.tree) == 0


@pytest.mark.parametrize("caretaker", [TreeReader, Upkeep])
def test_who_only_reads_or_looks_after_a_cache_makes_none_in_an_empty_mount_point(
    tmp_path: Path, caretaker: Callable[[Path], object]
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    with pytest.raises(NotACacheError, match=r"is not a cache: there is no layout\.json"):
        caretaker(mount)
    assert list(mount.iterdir()) == []
    with pytest.raises(NotACacheError):
        caretaker(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("now", ["nothing", "another"])
def test_processes_that_read_for_another_one_read_the_same_cache_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: str
) -> None:
    cache = FileCache(tmp_path / "c")
    for number in range(40):
        cache.put(f"{number}", b"%d" % number)
    monkeypatch.setattr(walk_many, "MANY", 0)
    reader = TreeReader(cache.root)
    parts = reader.parts(ENTRIES)
    rows = read_entries(reader, parts, processes=2)
    next(rows)  # of the part that this process reads itself
    cache.root.rename(tmp_path / "unmounted")
    cache.root.mkdir()
    if now == "another":
        FileCache(cache.root).put("other", b"other")
    with pytest.raises(CacheError, match="is not a cache" if now == "nothing" else "is gone: another cache"):
        list(rows)
    if now == "nothing":
        assert list(cache.root.iterdir()) == []

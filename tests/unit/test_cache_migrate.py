from __future__ import annotations

import errno
import json
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Never, Self

import pytest

from stager import steps
from stager.cache import entries as entries_module
from stager.cache import layout_file
from stager.cache import migrate as migrate_module
from stager.cache import shards as shards_module
from stager.cache.layout import Layout, Layouts
from stager.cache.layout_file import CLAIM_NAME
from stager.cache.migrate import KEEP_SECONDS, Migration
from stager.cache.owner import former, new_owner
from stager.cache.store import RECHECK_SECONDS, FileCache
from stager.cache.upkeep import Upkeep
from stager.clock import ManualClock
from stager.errors import ConflictError, InputError, LayoutVersionError, NotACacheError
from stager.model.entries import Entry

TEXTS = {f"https://h/{number}": f"bytes of {number}".encode() for number in range(40)}


def filled(root: Path, shards: str = "2+2", **options: Any) -> FileCache:
    cache = FileCache(root, shards=shards, **options)
    for key, text in TEXTS.items():
        cache.put(key, text)
    for key in list(TEXTS)[::2]:
        cache.get(key)  # makes its link
    return cache


def migrate(root: Path, shards: str | None, grace: float = 0.0) -> Migration:
    migration = Migration(root, shards, grace_seconds=grace)
    for _ in migration.run(lambda _: None):
        pass
    return migration


def files(cache: FileCache) -> set[str]:
    """Everything below the root, without directories."""
    found = (p for p in cache.root.rglob("*") if not p.is_dir())
    return {str(p.relative_to(cache.root)) for p in found}


def layout_json(cache: FileCache) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((cache.root / "layout.json").read_text())
    return found


def stored(shards: str) -> set[str]:
    """What a cache with the texts holds, apart from links."""
    layout = Layout(shards)
    return {"CACHEDIR.TAG", "layout.json"} | {
        name
        for key, text in TEXTS.items()
        for name in (
            layout.object(sha256(text).hexdigest()),
            layout.entry(sha256(key.encode()).hexdigest()),
        )
    }


@pytest.mark.parametrize(
    ("before", "after"), [("2+2", "4+4"), ("2+2", "flat"), ("flat", "2+2"), ("4+4", "2+2"), ("2", "2+2"), ("2+2", "2")]
)  # fmt: skip
def test_a_migration_moves_everything_and_leaves_nothing_behind(
    tmp_path: Path, before: str, after: str
) -> None:
    old = filled(tmp_path / "c", before, remember=0)
    done = migrate(old.root, after)
    assert files(old) == stored(after)
    assert done.counts == {"objects": len(TEXTS), "entries": len(TEXTS)}
    depth = len(Layout(after).widths)
    assert {len(p.relative_to(old.root).parts) for p in old.root.rglob("*") if p.is_dir()} == {
        *range(1, depth + 2)
    }
    for cache in (old, FileCache(old.root)):
        assert {key: cache.path(key).read_bytes() for key in cache} == TEXTS
        assert all(p.stat().st_nlink == 1 for p in (old.root / "objects").rglob("*") if p.is_file())


def test_a_migration_and_back_leaves_the_tree_as_it_was(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    migrate(cache.root, "flat")
    migrate(cache.root, "2+2")
    assert files(cache) == stored("2+2")


def test_access_times_survive(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    for number, key in enumerate(TEXTS):
        digest = sha256(key.encode()).hexdigest()
        os.utime(cache.root / Layout().entry(digest), (1e9 + number, 1e9 + number))
    migrate(cache.root, "4+4")
    for number, key in enumerate(TEXTS):
        assert cache.last_access(key) == 1e9 + number


def test_an_access_is_recorded_wherever_the_entry_is_by_then(tmp_path: Path) -> None:
    clock = ManualClock(2e9)
    cache = filled(tmp_path / "c", clock=clock)
    migrate(cache.root, "4+4")
    cache.close()
    assert cache.last_access("https://h/0") == 2e9


def test_a_path_that_was_handed_out_stays_good_until_everybody_knows(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    paths = {key: cache.path(key) for key in TEXTS}
    waits: list[float] = []

    def wait(seconds: float) -> None:
        assert {key: path.read_bytes() for key, path in paths.items()} == TEXTS
        waits.append(seconds)
        clock.advance(seconds)

    clock = ManualClock()
    for _ in Migration(cache.root, "4+4", clock=clock).run(wait):
        pass
    assert sum(waits) == migrate_module.GRACE_SECONDS
    assert not any(path.exists() for path in paths.values())


def test_a_migration_that_finds_nothing_to_move_does_not_wait(tmp_path: Path) -> None:
    FileCache(tmp_path / "c")
    for _ in Migration(tmp_path / "c", "4+4").run(lambda _: pytest.fail("it waited")):
        pass


def test_a_job_keeps_its_inputs_and_they_are_the_same_files(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    entry = cache.lookup("https://h/0")
    assert entry is not None
    path = cache.pin("job", "in", entry.object, entry.size)
    inode = path.stat().st_ino
    migrate(cache.root, "4+4")
    assert path.stat().st_ino == inode
    assert path.stat().st_nlink == 2
    assert cache.pin("job", "in", entry.object, entry.size).stat().st_ino == inode
    assert cache.pin("other", "in", entry.object, entry.size).stat().st_ino == inode


def test_marks_of_shared_objects_go_with_them(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c")
    for key in ("one", "two"):
        cache.put(key, b"same")
    migrate(cache.root, "4+4")
    assert sum(name.endswith(".shared") for name in files(cache)) == 1
    cache.remove("one")
    assert cache.path("two").read_bytes() == b"same"


def test_restricted_objects_move_and_stay_out_of_sight(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    name = sha256(b"secret").hexdigest()
    private = cache.root / Layout().object(name, restricted=True)
    (cache.root / "restricted").mkdir(0o700)
    private.parent.mkdir(parents=True)
    private.write_bytes(b"secret")
    cache.record(Entry("s", name, 6, 1.0, restricted=True))
    migrate(cache.root, "4+4")
    moved = cache.root / Layout("4+4").object(name, restricted=True)
    assert moved.read_bytes() == b"secret"
    assert moved.parent.stat().st_mode & 0o077 == 0
    assert cache.get("s") == moved


def test_what_is_removed_while_its_object_has_both_names_is_gone(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    migration = Migration(cache.root, "4+4", grace_seconds=0)
    migration.announce()
    for _ in migration.name_objects():
        pass
    for key in TEXTS:
        assert cache.remove(key)
    assert files(cache) == {"CACHEDIR.TAG", "layout.json"}


def test_a_writer_that_knows_nothing_of_it_writes_to_the_new_layout_in_the_end(tmp_path: Path) -> None:
    unaware = filled(tmp_path / "c")
    migration = Migration(unaware.root, "4+4", grace_seconds=0)
    migration.announce()
    unaware.put("https://h/0", b"newer")
    unaware.put("new", b"new")
    for _ in migration.run(lambda _: None):
        pass
    for cache in (unaware, FileCache(unaware.root)):
        assert cache.path("https://h/0").read_bytes() == b"newer"
        assert cache.path("new").read_bytes() == b"new"
        assert len(cache) == len(TEXTS) + 1


def test_a_writer_that_is_overtaken_while_it_writes_writes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = filled(tmp_path / "c")
    replace = writer._entries._replace

    def slow(path: str, content: bytes, mode: int, *, durable: bool) -> None:
        if json.loads((writer.root / "layout.json").read_text())["shards"] == "2+2":
            migrate(writer.root, "4+4")
        replace(path, content, mode, durable=durable)

    monkeypatch.setattr(writer._entries, "_replace", slow)
    entry = writer.put("https://h/0", b"newer")
    assert writer.path("https://h/0").read_bytes() == b"newer"
    fresh = FileCache(writer.root)
    assert fresh.lookup("https://h/0") == entry
    assert fresh.path("https://h/0").read_bytes() == b"newer"


def test_of_two_entries_of_a_key_the_newer_one_stays(tmp_path: Path) -> None:
    for newer in ("2+2", "4+4"):
        cache = filled(tmp_path / newer)
        entry = cache.lookup("https://h/0")
        other = cache.lookup("https://h/1")
        assert entry is not None
        assert other is not None
        migration = Migration(cache.root, "4+4", grace_seconds=0)
        migration.announce()
        digest = sha256(b"https://h/0").hexdigest()
        for shards in ("2+2", "4+4"):
            path = cache.root / Layout(shards).entry(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            when = 9e9 if shards == newer else 1e9
            path.write_bytes(
                Entry("https://h/0", other.object if when > 2e9 else entry.object, entry.size, when).to_json()
            )
        for _ in migration.run(lambda _: None):
            pass
        found = FileCache(cache.root).lookup("https://h/0")
        assert found is not None
        assert found.stored_at == 9e9


@pytest.mark.parametrize("damaged", ["old", "new"])
def test_of_two_files_of_an_object_the_good_one_stays(tmp_path: Path, damaged: str) -> None:
    cache = filled(tmp_path / "c")
    path = cache.path("https://h/0")
    good = path.read_bytes()
    new = cache.root / Layout("4+4").object(path.name)
    new.parent.mkdir(parents=True)
    new.write_bytes(good if damaged == "old" else b"torn")
    if damaged == "old":
        path.chmod(0o644)
        path.write_bytes(b"torn")
    done = migrate(cache.root, "4+4")
    assert FileCache(cache.root).path("https://h/0").read_bytes() == good
    assert done.counts["duplicates"] == 1


def test_a_cache_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotACacheError, match="has no layout"):
        Migration(tmp_path / "typo", "4+4")
    with pytest.raises(InputError, match="shard widths"):
        Migration(filled(tmp_path / "c").root, "2+")
    assert not (tmp_path / "typo").exists()


def test_a_migration_that_another_one_overtakes_says_so_and_nothing_is_lost(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c", remember=0)
    migration = Migration(cache.root, "4+4", grace_seconds=0)
    running = migration.run(lambda _: None)
    next(running)
    migrate(cache.root, "flat")
    with pytest.raises(ConflictError, match="moved to flat"):
        list(running)
    assert {key: cache.path(key).read_bytes() for key in TEXTS} == TEXTS
    migrate(cache.root, None)
    assert files(cache) >= stored("flat")
    assert not [path for path in (cache.root / "objects").iterdir() if path.is_dir()]


def test_a_migration_whose_layout_nobody_knows_any_more_names_it_again(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c", remember=0)
    before = (cache.root / "layout.json").read_text()
    migration = Migration(cache.root, "4+4", grace_seconds=0)
    for _ in migration.run(lambda _: None):
        pass
    (cache.root / "layout.json").write_text(before)  # as if two had changed it at once
    FileCache(cache.root).put("k", b"there is something to move")
    with pytest.raises(ConflictError):
        list(migration.name_objects())
    assert {key: cache.path(key).read_bytes() for key in TEXTS} == TEXTS


def test_only_one_changes_the_layout_at_a_time_and_a_dead_one_is_no_hindrance(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    claim = cache.root / CLAIM_NAME
    claim.write_text("otherhost-12345678-1-1-0")
    with pytest.raises(ConflictError, match="try again"):
        migrate(cache.root, "4+4")
    assert layout_json(cache)["shards"] == "2+2"
    os.utime(claim, (1, 1))
    migrate(cache.root, "4+4")
    assert layout_json(cache)["shards"] == "4+4"
    assert not claim.exists()


def test_of_two_who_find_a_dead_claim_one_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = filled(tmp_path / "c")
    (cache.root / CLAIM_NAME).write_text(former(new_owner()))
    quicker = ExitStack()

    def is_alive(_owner: str) -> bool:  # asked by the slower one, who has read the dead claim
        monkeypatch.undo()
        quicker.enter_context(layout_file._claimed(str(cache.root)))
        return False

    monkeypatch.setattr(layout_file, "is_alive", is_alive)
    with quicker:
        with pytest.raises(ConflictError, match="try again"):
            layout_file.change_layouts(str(cache.root), lambda _: pytest.fail("two at once"))
        assert (cache.root / CLAIM_NAME).exists()
    assert not (cache.root / CLAIM_NAME).exists()


def test_who_has_lost_its_claim_changes_nothing(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    claim = cache.root / CLAIM_NAME
    before = layout_json(cache)

    def change(layouts: Layouts) -> Layouts:
        claim.write_text("otherhost-12345678-1-1-0")  # which took ours for a dead one's
        return replace(layouts, current=Layout("4+4"))

    with pytest.raises(ConflictError, match="not ours"):
        layout_file.change_layouts(str(cache.root), change)
    assert layout_json(cache) == before
    assert claim.exists()


def test_the_age_of_a_claim_is_told_by_the_clock_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled(tmp_path / "c")
    (cache.root / CLAIM_NAME).write_text("otherhost-12345678-1-1-0")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    with pytest.raises(ConflictError, match="try again"):
        layout_file.change_layouts(str(cache.root), lambda layouts: layouts)


def test_what_a_killed_change_of_the_layout_left_is_cleared_away(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    (cache.root / f".layout.json.{former(new_owner())}").write_text("{")
    (cache.root / CLAIM_NAME).write_text(former(new_owner()))
    migrate(cache.root, "4+4")
    assert files(cache) == stored("4+4")


def test_a_cache_that_a_newer_program_has_changed_is_not_answered_for(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    text = layout_json(cache) | {"version": 99}
    (cache.root / "new").write_text(json.dumps(text))
    (cache.root / "new").rename(cache.root / "layout.json")
    with pytest.raises(LayoutVersionError, match="upgrade"):
        cache.get("none")


def test_the_old_layout_stays_named_for_a_day_and_then_an_older_program_can_read_the_cache(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    cache = filled(tmp_path / "c")

    def again() -> None:
        for _ in Migration(cache.root, grace_seconds=0, clock=clock).run(lambda _: None):
            pass

    migrate_at = Migration(cache.root, "4+4", grace_seconds=0, clock=clock)
    for _ in migrate_at.run(lambda _: None):
        pass
    assert layout_json(cache)["version"] == 2
    again()
    assert layout_json(cache)["previous"] == ["2+2"]
    clock.advance(KEEP_SECONDS + 1)
    again()
    assert layout_json(cache)["version"] == 1
    assert "previous" not in layout_json(cache)


def test_upkeep_takes_the_last_look(tmp_path: Path) -> None:
    clock = ManualClock()
    cache = filled(tmp_path / "c")
    upkeep = Upkeep(cache.root, clock=clock)
    for _ in Migration(cache.root, "4+4", grace_seconds=0, clock=clock).run(lambda _: None):
        pass
    upkeep.step(10_000)
    assert layout_json(cache)["previous"] == ["2+2"]
    digest = sha256(b"https://h/0").hexdigest()
    late = cache.root / Layout("2+2").entry(digest)
    late.parent.mkdir(parents=True)
    late.write_bytes(
        Entry(
            "https://h/0", sha256(TEXTS["https://h/1"]).hexdigest(), len(TEXTS["https://h/1"]), 9e9
        ).to_json()
    )
    clock.advance(KEEP_SECONDS + 1)
    upkeep.step(10_000)
    upkeep.step(10_000)
    assert "previous" not in layout_json(cache)
    assert files(cache) == stored("4+4")
    assert FileCache(cache.root).path("https://h/0").read_bytes() == TEXTS["https://h/1"]


def test_where_there_are_no_hard_links_files_are_renamed_and_pins_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> Never:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    cache = filled(tmp_path / "c", remember=0)
    entry = cache.lookup("https://h/0")
    assert entry is not None
    pinned = cache.pin("job", "in", entry.object, entry.size)
    assert pinned.is_symlink()
    path = cache.path("https://h/1")
    migration = Migration(cache.root, "4+4", grace_seconds=0)
    for step in migration.run(lambda _: None):
        assert pinned.read_bytes() == TEXTS["https://h/0"]
        if step.step != "old names":
            assert path.read_bytes() == TEXTS["https://h/1"]
    assert migration.counts["pins"] == 1
    assert pinned.read_bytes() == TEXTS["https://h/0"]
    assert {key: cache.path(key).read_bytes() for key in TEXTS} == TEXTS
    assert {name for name in files(cache) if not name.startswith(("jobs", "partial"))} >= stored("4+4")


def test_foreign_files_stay_where_they_are(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    notes = cache.path("https://h/0").parent / "notes.txt"
    notes.write_text("mine")
    migrate(cache.root, "4+4")
    assert notes.read_text() == "mine"


def test_a_hit_is_answered_from_memory_only_as_long_as_a_path_stays_good() -> None:
    assert migrate_module.GRACE_SECONDS > 10 * RECHECK_SECONDS


def test_readers_find_everything_at_every_step(tmp_path: Path) -> None:
    old = filled(tmp_path / "c", remember=0)
    migration = Migration(old.root, "4+4", grace_seconds=0)
    migration.announce()
    aware = FileCache(old.root, remember=0)
    seen: set[str] = set()

    def look(step: str) -> None:
        seen.add(step)
        steps.observe(None)
        fresh = FileCache(old.root, remember=0)
        for cache in (old, aware, fresh):
            for key in ("https://h/0", "https://h/1", "https://h/39"):
                assert cache.path(key).read_bytes() == TEXTS[key], step
                entry = cache.lookup(key)
                assert entry is not None
                assert cache.has_object(entry.object, entry.size), step
            assert len(cache) == len(TEXTS), step
        steps.observe(look)

    steps.observe(look)
    try:
        for _ in migration.run(lambda _: None):
            pass
    finally:
        steps.observe(None)
    assert seen == {step for step in steps.MAINTENANCE_STEPS if step.startswith("migrate.")}


@pytest.mark.parametrize("missed", [1, 2])
def test_a_reader_that_is_overtaken_between_two_looks_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missed: int
) -> None:
    migration = Migration(filled(tmp_path / "c").root, "4+4", grace_seconds=0)
    if missed == 2:  # it knows of the migration, and looks into the new layout first
        migration.announce()
    reader = FileCache(tmp_path / "c", remember=0)
    read = entries_module._read
    looks = 0

    def overtaken(*arguments: Any) -> bytes | None:
        nonlocal looks
        looks += 1
        if looks == missed:
            for _ in migration.run(lambda _: None):
                pass
        return read(*arguments)

    monkeypatch.setattr(entries_module, "_read", overtaken)
    entry = reader.lookup("https://h/1")
    assert entry is not None
    assert looks > missed
    assert reader.path("https://h/1").read_bytes() == TEXTS["https://h/1"]


def test_who_knows_nothing_of_it_sees_what_others_have_written_since(tmp_path: Path) -> None:
    unaware = filled(tmp_path / "c", remember=0)
    unaware.get("https://h/0")
    migration = Migration(unaware.root, "4+4", grace_seconds=0)
    migration.announce()
    FileCache(unaware.root).put("https://h/0", b"newer")
    assert unaware.path("https://h/0").read_bytes() == b"newer"
    FileCache(unaware.root).remove("https://h/0")
    assert unaware.get("https://h/0") is None


def test_a_path_handed_out_while_entries_are_moved_stays_good_as_long_as_any(tmp_path: Path) -> None:
    clock = ManualClock()
    cache = filled(tmp_path / "c", clock=clock)
    migration = Migration(cache.root, "4+4", grace_seconds=30, clock=clock)
    migration.announce()
    list(migration.name_objects())
    path = cache.path("https://h/0")
    assert path.parent.parent.parent.name == "objects"
    assert len(path.parent.name) == 2, "it was handed out by one that knows nothing"
    clock.advance(1000)  # a large cache
    list(migration.move_entries())
    assert migration.due_in == 30


def test_what_is_published_again_meanwhile_is_still_one_file(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    Migration(cache.root, "4+4", grace_seconds=0).announce()
    cache.put("another key", TEXTS["https://h/0"])
    with cache.open("a third one", "wb") as file:
        file.write(TEXTS["https://h/0"])
    assert migrate(cache.root, "4+4").counts["duplicates"] == 0
    cache.remove("https://h/0")
    assert cache.path("a third one").read_bytes() == cache.path("another key").read_bytes()


def test_a_link_that_was_left_where_the_cache_was_before_misleads_nobody(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c", remember=0)
    link = cache.root / Layout("2+2").link(sha256(b"https://h/0").hexdigest())
    target = link.readlink()
    migrate(cache.root, "4+4")
    clock = ManualClock(9e9)
    list(Migration(cache.root, grace_seconds=0, clock=clock).run(lambda _: None))
    assert "previous" not in layout_json(cache)
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    cache.put("https://h/0", b"newer")
    cache.put("old bytes", TEXTS["https://h/0"])
    migrate(cache.root, "2+2")
    assert FileCache(cache.root).path("https://h/0").read_bytes() == b"newer"


def test_a_large_directory_is_listed_until_nothing_is_left_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that passes over names when others are removed between two readings of a directory."""

    class Forgetful:
        def __init__(self, path: str) -> None:
            self._found = scandir(path)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._found.close()

        def __iter__(self) -> Self:
            return self

        def __next__(self) -> os.DirEntry[str]:
            item = next(self._found)
            next(self._found, None)
            return item

    scandir = os.scandir
    cache = filled(tmp_path / "c", "flat", remember=0)
    monkeypatch.setattr(shards_module, "BATCH", 2)
    migration = Migration(cache.root, "2+2", grace_seconds=0)
    migration.announce()
    list(migration.name_objects())
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", Forgetful)
        list(migration.move_entries())
        list(migration.drop_names())
    left = [path for path in (cache.root / "objects").iterdir() if path.is_file()]
    assert len(left) <= 4
    assert {key: cache.path(key).read_bytes() for key in TEXTS} == TEXTS

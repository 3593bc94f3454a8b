"""Evicting from a tree: entries, then the object, whatever else happens at the same moment."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stager import steps
from stager.cache import pin_files
from stager.cache.entries import EntryFiles
from stager.cache.eviction import Evicted, Evictor, Fate, Victim
from stager.cache.pin_files import PinFiles
from stager.cache.stamp import file_system_time
from stager.cache.store import FileCache
from stager.cache.symbolic import SymbolicInputs
from stager.cache.trash import Trash
from stager.cache.tree import open_tree
from stager.clock import ManualClock
from stager.model.entries import Entry
from stager.model.keys import key_digest
from stager.model.pins import Pin

DATA = b"bytes of an object"
OBJECT = sha256(DATA).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "c", remember=0)


@pytest.fixture(autouse=True)
def unobserved() -> Iterator[None]:
    yield
    steps.observe(None)


def victim(*keys: str, data: bytes = DATA, whole: bool = True) -> Victim:
    return Victim(sha256(data).hexdigest(), len(data), tuple(key_digest(key) for key in keys), whole)


def evictor(cache: FileCache, trash: Trash | None = None) -> Evictor:
    return Evictor(open_tree(cache.root, "2+2"), trash)


def evict(cache: FileCache, *keys: str, **more: Any) -> Evicted:
    (one,) = evictor(cache).evict([victim(*keys)], **more)
    return one


def files(cache: FileCache) -> set[str]:
    """What is left of the files' own."""
    parts = ("objects", "entries", "trash", "partial")
    found = (path for part in parts for path in (cache.root / part).rglob("*"))
    return {path.relative_to(cache.root).as_posix() for path in found if path.is_symlink() or path.is_file()}


def at(step: str, action: Callable[[], object]) -> None:
    """Do something the first time that a step is reached."""
    left = [True]

    def observer(reached: str) -> None:
        if reached == step and left[0]:
            left[0] = False
            action()

    steps.observe(observer)


def test_an_object_goes_with_all_its_entries_their_links_and_its_mark(cache: FileCache) -> None:
    cache.put("a", DATA)
    cache.put("b", DATA)
    assert cache.get("a")
    assert cache.get("b")
    assert len(files(cache)) == 6
    one = evict(cache, "a", "b")
    assert (one.fate, one.freed, sorted(one.digests)) == (
        Fate.GONE,
        len(DATA),
        sorted(victim("a", "b").digests),
    )
    assert files(cache) == set()


def test_what_is_gone_already_is_evicted_again_without_complaint(cache: FileCache) -> None:
    cache.put("a", DATA)
    evict(cache, "a")
    again = evict(cache, "a")
    assert (again.fate, again.freed) == (Fate.GONE, 0)


def test_an_input_of_a_job_holds_the_object_and_nothing_changes(cache: FileCache) -> None:
    cache.put("a", DATA)
    cache.pin("job", "input", OBJECT, len(DATA))
    assert evict(cache, "a").fate is Fate.HELD
    assert cache.path("a").read_bytes() == DATA
    cache.unpin("job")
    assert evict(cache, "a").fate is Fate.GONE


def test_a_forced_eviction_of_what_is_held_forgets_the_key_and_leaves_the_bytes(cache: FileCache) -> None:
    cache.put("a", DATA)
    path = cache.pin("job", "input", OBJECT, len(DATA))
    one = evict(cache, "a", force=True)
    assert (one.fate, one.freed) == (Fate.FORGOTTEN, 0)
    assert cache.lookup("a") is None
    assert path.read_bytes() == DATA
    assert cache.has_object(OBJECT)


def test_a_dry_run_says_the_same_and_changes_nothing(cache: FileCache) -> None:
    cache.put("a", DATA)
    before = files(cache)
    would = evict(cache, "a", dry_run=True)
    assert files(cache) == before
    assert would == evict(cache, "a")


def test_what_the_caller_says_is_held_stays(cache: FileCache) -> None:
    cache.put("a", DATA)
    (one,) = evictor(cache).evict([victim("a")], held={OBJECT})
    assert one.fate is Fate.HELD
    assert cache.lookup("a")


def test_a_key_alone_is_forgotten_when_another_has_the_same_bytes(cache: FileCache) -> None:
    cache.put("a", DATA)
    cache.put("b", DATA)
    (one,) = evictor(cache).evict([victim("a", whole=False)])
    assert (one.fate, one.freed) == (Fate.FORGOTTEN, 0)
    assert cache.lookup("a") is None
    assert cache.path("b").read_bytes() == DATA


def test_a_key_that_has_another_object_by_now_keeps_it(cache: FileCache) -> None:
    cache.put("a", DATA)
    cache.put("a", b"newer")
    one = evict(cache, "a")
    assert (one.fate, one.digests) == (Fate.GONE, [])
    assert cache.path("a").read_bytes() == b"newer"
    assert not cache.has_object(OBJECT)


def test_an_entry_that_is_replaced_while_it_goes_is_not_lost(cache: FileCache) -> None:
    cache.put("a", DATA)
    at("evict.judged", lambda: cache.put("a", b"newer"))
    one = evict(cache, "a")
    assert one.digests == []
    assert cache.path("a").read_bytes() == b"newer"


def test_of_an_entry_that_is_put_back_and_a_newer_one_the_newer_one_stays(cache: FileCache) -> None:
    cache.put("a", DATA)
    bodies = iter([b"newer", b"newest"])

    def replace(step: str) -> None:
        if step in {"evict.judged", "evict.aside"} and (body := next(bodies, None)):
            cache.put("a", body)

    steps.observe(replace)
    assert evict(cache, "a").digests == []
    assert cache.path("a").read_bytes() == b"newest"


def test_an_entry_that_is_replaced_while_it_goes_is_not_lost_where_links_are_refused(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("a", DATA)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    def replace() -> None:
        cache.put("a", b"newer")
        monkeypatch.setattr(os, "link", refuse)

    at("evict.judged", replace)
    assert evict(cache, "a").digests == []
    assert cache.path("a").read_bytes() == b"newer"


def test_an_entry_of_another_object_is_never_put_aside(cache: FileCache) -> None:
    cache.put("a", DATA)
    cache.put("a", b"newer")
    at("evict.aside", lambda: pytest.fail("put aside"))
    assert evict(cache, "a").digests == []


def test_emptying_the_trash_leaves_what_a_running_eviction_has_put_aside(cache: FileCache) -> None:
    trash = Trash(open_tree(cache.root, "2+2"), ManualClock())
    cache.put("a", DATA)
    seen: list[object] = []

    def replace_and_empty(step: str) -> None:
        if step == "evict.begun":
            seen.append(trash.empty())
        elif step == "evict.judged":
            cache.put("a", b"newer")
        elif step == "evict.aside":
            seen.extend([trash.empty(), trash.size()])

    steps.observe(replace_and_empty)
    assert evict(cache, "a").digests == []
    assert seen == [(0, 0)] * 3
    assert cache.path("a").read_bytes() == b"newer"


def test_a_trash_that_somebody_deletes_meanwhile_does_not_make_an_entry_look_gone(cache: FileCache) -> None:
    cache.put("a", DATA)
    at("evict.judged", lambda: shutil.rmtree(cache.root / "trash"))
    assert evict(cache, "a").digests == list(victim("a").digests)
    assert files(cache) == set()


def test_an_entry_whose_promise_its_row_does_not_know_stays_with_its_object(cache: FileCache) -> None:
    cache.put("result:j/x", DATA, keep_until=time.time() + 3600)
    one = evict(cache, "result:j/x")
    assert (one.fate, one.digests, one.freed) == (Fate.PROMISED, [], 0)
    assert cache.path("result:j/x").read_bytes() == DATA
    assert evict(cache, "result:j/x", force=True).fate is Fate.GONE
    cache.put("result:j/x", DATA, keep_until=time.time() - 1)
    assert evict(cache, "result:j/x").fate is Fate.GONE


def known(cache: FileCache, known: float, *keys: str, force: bool = False) -> Evicted:
    """Evict by one who knows of all who stored the bytes until then."""
    (one,) = evictor(cache).evict([dataclasses.replace(victim(*keys), known=known)], force=force)
    return one


def test_an_object_that_got_another_name_which_nobody_knows_of_yet_stays(cache: FileCache) -> None:
    cache.put("a", DATA)
    os.utime(cache.object_path(OBJECT), (1e9, 1e9))
    cache.put("result:j/x", DATA)
    one = known(cache, 1e9, "a")
    assert (one.fate, one.digests) == (Fate.NEWS, [])
    assert cache.path("a").read_bytes() == cache.path("result:j/x").read_bytes() == DATA
    assert known(cache, 1e9, "a", force=True).fate is Fate.FORGOTTEN
    assert cache.path("result:j/x").read_bytes() == DATA
    for path in (cache.root / "objects").rglob("*"):
        os.utime(path, (1e9, 1e9))  # days have passed
    assert known(cache, 1e9, "result:j/x").fate is Fate.GONE


def test_an_object_is_marked_for_another_key_than_the_one_that_is_known_and_stays(cache: FileCache) -> None:
    cache.put("result:j/x", DATA)
    cache.put("b", DATA)
    assert known(cache, time.time(), "b").fate is Fate.NEWS
    assert known(cache, time.time(), "b", "result:j/x").fate is Fate.GONE


def test_a_host_whose_clock_is_behind_can_evict_what_it_stored(cache: FileCache) -> None:
    cache.put("a", DATA)
    assert known(cache, time.time() - 7200.0, "a").fate is Fate.GONE


def test_an_unnamed_object_that_got_a_name_of_late_stays(cache: FileCache) -> None:
    cache.put("a", DATA)
    one = known(cache, time.time())
    assert one.fate is Fate.NEWS
    os.utime(cache.object_path(OBJECT), (1e9, 1e9))
    assert known(cache, 1e9).fate is Fate.GONE


def test_an_object_that_is_stored_again_right_before_it_goes_stays(cache: FileCache) -> None:
    cache.put("a", DATA)
    os.utime(cache.object_path(OBJECT), (1e9, 1e9))
    at("evict.entries", lambda: cache.put("b", DATA))
    assert evict(cache, "a").fate is Fate.FORGOTTEN
    assert cache.path("b").read_bytes() == DATA


@pytest.mark.parametrize("call", ["rename", "unlink", "stat", "access"])
@pytest.mark.parametrize("shared", [False, True])
def test_an_object_that_is_stored_again_at_any_moment_while_it_goes_is_not_lost(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch, call: str, *, shared: bool
) -> None:
    """Before each call that names the object somebody else stores the same bytes, in a run of its own."""
    other, keys = FileCache(cache.root, remember=0), ["a", "c"] if shared else ["a"]
    for moment in range(20):
        for key in keys:
            cache.put(key, DATA)
        for path in (cache.root / "objects").rglob("*"):
            os.utime(path, (1e9, 1e9))
        action, met, busy = getattr(os, call), [0], [False]

        def overtaken(
            path: str, *more: Any, action: Any = action, met: list[int] = met, busy: list[bool] = busy,
            moment: int = moment, **options: Any,
        ) -> Any:  # fmt: skip
            if not busy[0] and OBJECT in str(path):
                met[0] += 1
                if met[0] == moment + 1:
                    busy[0] = True
                    other.put("b", DATA)
            return action(path, *more, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, overtaken)
            known(cache, 1e9, *keys)
        assert (other.lookup("b") is not None) == busy[0], f"lost before call {moment + 1} of {call}"
        evict(cache, *keys, "b")
        assert files(cache) == set()
        if not busy[0]:
            break
    else:
        pytest.fail("there was always one more call")


KILLED = """
import os, signal, sys
from hashlib import sha256
from stager import steps
from stager.cache.eviction import Evictor, Victim
from stager.cache.store import FileCache
from stager.cache.tree import open_tree
from stager.model.keys import key_digest

root, stored = sys.argv[1], sys.argv[2:]
cache = FileCache(root)
cache.put("a", b"bytes of an object")

def observer(reached):
    if reached == "evict.entries":
        for key in stored:
            FileCache(root).put(key, b"bytes of an object")
    elif reached == "evict.taken":
        os.kill(os.getpid(), signal.SIGKILL)

steps.observe(observer)
Evictor(open_tree(root, "2+2")).evict([Victim(sha256(b"bytes of an object").hexdigest(), 18, (key_digest("a"),))])
"""


@pytest.mark.parametrize("stored", [[], ["b"], ["b", "c"]])
def test_what_a_killed_eviction_had_taken_comes_back_if_somebody_has_stored_it_again(
    cache: FileCache, stored: list[str]
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, cache.root, *stored], check=False, timeout=60)
    assert done.returncode == -9
    assert not cache.has_object(OBJECT)
    cache.sweep()
    assert set(cache) == set(stored)
    evict(cache, "a", *stored)
    assert files(cache) == set()
    assert list((cache.root / "trash").iterdir()) == []


def test_on_a_network_file_system_links_and_pins_are_looked_for_on_the_server(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("a", DATA)
    tree = open_tree(cache.root, "2+2")
    tree.remote = True
    path, before = str(cache.object_path(OBJECT)), os.stat
    old = before(path)
    monkeypatch.setattr(os, "stat", lambda name, **more: old if name == path else before(name, **more))
    cache.pin("job", "input", OBJECT, len(DATA))
    assert Evictor(tree).evict([victim("a")])[0].fate is Fate.HELD
    cache.unpin("job")
    monkeypatch.undo()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)  # so that the record alone holds it
        PinFiles(tree).pin(Pin(OBJECT, "user:ada"))
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda name, *more, **kind: "/pins/" not in name and access(name, *more, **kind)
    )
    assert Evictor(tree).evict([victim("a")])[0].fate is Fate.HELD


def test_two_names_of_one_object_go_to_the_trash_once(cache: FileCache) -> None:
    from stager.cache.migrate import Migration

    cache.put("a", DATA)
    migration = Migration(cache.root, "4")
    migration.announce()
    for _ in migration.name_objects():
        pass
    tree = open_tree(cache.root, "2+2")
    (one,) = Evictor(tree, Trash(tree, ManualClock())).evict([victim("a")])
    assert (one.fate, one.freed) == (Fate.GONE, len(DATA))
    (left,) = files(cache)
    assert left.startswith("trash/")


def test_what_is_evicted_twice_a_day_can_be_read_by_those_who_have_the_first_one_open(
    cache: FileCache,
) -> None:
    tree = open_tree(cache.root, "2+2")
    trash = Trash(tree, ManualClock())
    for _ in range(2):
        cache.put("a", DATA)
        Evictor(tree, trash).evict([victim("a")])
    assert trash.size() == (2, 2 * len(DATA))


def test_an_entry_without_object_is_not_left_when_it_is_written_at_the_same_moment(cache: FileCache) -> None:
    cache.put("a", DATA)
    entry = cache.lookup("a")
    assert entry is not None
    tree = open_tree(cache.root, "2+2")
    at("evict.entries", lambda: EntryFiles(tree).write(entry, key_digest("a")))
    one = evict(cache, "a")
    assert one.fate is Fate.GONE
    assert files(cache) == set()


def test_a_key_that_is_confirmed_right_before_its_object_goes_keeps_it(cache: FileCache) -> None:
    cache.put("a", DATA)
    entry = cache.lookup("a")
    assert entry is not None
    at("evict.entries", lambda: cache.record(entry))
    one = evict(cache, "a")
    assert (one.fate, one.digests) == (Fate.FORGOTTEN, [])
    assert cache.path("a").read_bytes() == DATA


def test_an_object_that_is_published_again_at_the_same_moment_keeps_its_entry(cache: FileCache) -> None:
    cache.put("a", DATA)
    at("evict.objects", lambda: cache.put("a", DATA))
    one = evict(cache, "a")
    assert one.digests == []
    assert cache.path("a").read_bytes() == DATA


def test_a_job_that_pins_between_the_look_and_the_removal_keeps_its_bytes(cache: FileCache) -> None:
    cache.put("a", DATA)
    at("evict.begun", lambda: cache.pin("job", "input", OBJECT, len(DATA)))
    assert evict(cache, "a").fate is Fate.GONE
    assert (cache.root / "jobs/job/inputs/input").read_bytes() == DATA


def test_an_object_that_somebody_pins_while_it_goes_is_brought_back(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("a", DATA)
    pins = PinFiles(open_tree(cache.root, "2+2"))
    monkeypatch.setattr(pin_files, "EVICTION_SECONDS", 0.1)
    at("evict.begun", lambda: pins.pin(Pin(OBJECT, "user:ada")))
    one = evict(cache, "a")
    assert (one.fate, one.freed) == (Fate.FORGOTTEN, 0)
    assert cache.object_path(OBJECT).read_bytes() == DATA


def test_two_who_evict_the_same_free_it_once(cache: FileCache) -> None:
    cache.put("a", DATA)
    others: list[Evicted] = []
    at("evict.entries", lambda: others.append(evict(cache, "a")))
    one = evict(cache, "a")
    assert (one.freed, others[0].freed) == (0, len(DATA))
    assert files(cache) == set()


def test_a_damaged_entry_goes_with_any_object(cache: FileCache) -> None:
    cache.put("a", DATA)
    (entry,) = (cache.root / "entries").rglob("*.json")
    entry.write_text("{")
    assert evict(cache, "a").digests == list(victim("a").digests)
    assert files(cache) == set()


def test_an_entry_of_a_newer_version_stays(cache: FileCache) -> None:
    cache.put("a", DATA)
    (entry,) = (cache.root / "entries").rglob("*.json")
    newer = entry.read_text().replace('"version":1', '"version":99').replace(OBJECT, "?")
    entry.write_text(newer)
    assert evict(cache, "a").digests == []
    assert entry.read_text() == newer


@pytest.mark.parametrize("call", ["rename", "unlink"])
def test_what_the_file_system_refuses_is_said_and_does_not_keep_the_others(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    cache.put("a", DATA)
    cache.put("b", b"other")
    action, left = getattr(os, call), [True]

    def refuse(path: str, *more: object, **options: object) -> None:
        if Path(path).name.startswith(OBJECT) and left.pop():
            left.append(False)
            raise OSError(errno.EACCES, "Permission denied", path)
        action(path, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        done = evictor(cache).evict([victim("a"), victim("b", data=b"other")])
    fates = {one.victim.object: one for one in done}
    assert fates[OBJECT].fate is Fate.FAILED
    assert "Permission denied" in str(fates[OBJECT].error)
    assert str(cache.root) in str(fates[OBJECT].error)
    assert cache.object_path(OBJECT).read_bytes() == DATA
    assert fates[sha256(b"other").hexdigest()].fate is Fate.GONE
    assert evict(cache, "a").fate is Fate.GONE, "and it goes when it can be removed again"
    assert files(cache) == set()


def test_objects_in_an_earlier_layout_go_too(cache: FileCache) -> None:
    from stager.cache.migrate import Migration

    cache.put("a", DATA)
    migration = Migration(cache.root, "4", grace_seconds=0.0)
    for _ in zip(migration.run(lambda _: None), range(1), strict=False):
        pass
    (one,) = Evictor(open_tree(cache.root, "2+2")).evict([victim("a")])
    assert (one.fate, one.freed) == (Fate.GONE, len(DATA))
    assert files(cache) == set()


# -- the trash -----------------------------------------------------------------------------------


def test_on_a_network_file_system_an_object_can_be_read_until_its_grace_is_over(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = open_tree(cache.root, "2+2")
    trash = Trash(tree, ManualClock(1e11))  # this host's clock is wrong, which changes nothing
    cache.put("a", DATA)
    (one,) = Evictor(tree, trash).evict([victim("a")])
    assert one.fate is Fate.GONE
    assert not cache.has_object(OBJECT)
    assert trash.size() == (1, len(DATA))
    assert trash.empty(600.0) == (0, 0)
    now = file_system_time(tree)
    monkeypatch.setattr("stager.cache.trash.file_system_time", lambda _: now + 1000.0)
    assert trash.empty(600.0) == (1, len(DATA))
    assert files(cache) == set()


def test_bytes_that_are_needed_now_do_not_wait_in_the_trash(cache: FileCache) -> None:
    tree = open_tree(cache.root, "2+2")
    trash = Trash(tree, ManualClock())
    cache.put("a", DATA)
    Evictor(tree, trash).evict([victim("a")], at_once=True)
    assert trash.size() == (0, 0)


def test_what_was_found_damaged_is_deleted_neither_after_the_grace_nor_for_room(cache: FileCache) -> None:
    trash = Trash(open_tree(cache.root, "2+2"), ManualClock(1e12))
    day = cache.root / "trash/2026-01-01"
    day.mkdir(parents=True)
    (day / "damaged-x").write_bytes(DATA)
    assert trash.empty(600.0) == (0, 0)
    assert trash.empty() == (0, 0)
    assert (day / "damaged-x").read_bytes() == DATA


def test_inputs_that_are_symbolic_links_are_found_where_hard_links_are_refused(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("a", DATA)
    assert SymbolicInputs(open_tree(cache.root, "2+2"))() == set()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    cache.pin("job", "input", OBJECT, len(DATA))
    held = SymbolicInputs(open_tree(cache.root, "2+2"))()
    assert held == {OBJECT}
    (one,) = evictor(cache).evict([victim("a")], held=held)
    assert one.fate is Fate.HELD


def test_an_entry_written_for_another_object_by_a_fetch_is_none_of_ours(cache: FileCache) -> None:
    cache.put("a", DATA)
    other = sha256(b"other").hexdigest()
    cache.publish_bytes("a", b"other", other)
    at("evict.begun", lambda: cache.record(Entry("a", other, 5, 1.0)))
    one = evict(cache, "a")
    assert (one.fate, one.digests) == (Fate.GONE, [])
    assert cache.path("a").read_bytes() == b"other"

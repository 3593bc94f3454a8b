"""Entries that lead nowhere go; one that is written at the same moment never does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stager import steps
from stager.cache.entries import EntryFiles
from stager.cache.entry_removal import give_back_entries, remove_vacant
from stager.cache.orphans import ENTRY, THROWN, Orphan, Orphans
from stager.cache.quarantine import Quarantine
from stager.cache.store import FileCache
from stager.cache.trash import EVICTING, Trash
from stager.cache.tree import open_tree
from stager.clock import ManualClock
from stager.model.keys import key_digest

DATA = b"data"
DIGEST = key_digest("k")


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "c", remember=0)


@pytest.fixture(autouse=True)
def unobserved() -> Iterator[None]:
    yield
    steps.observe(None)


def vacant(cache: FileCache) -> None:
    """An entry whose object is not there."""
    cache.put("k", DATA)
    cache.object_path(sha256(DATA).hexdigest()).unlink()


def at(step: str, action: Callable[[], object]) -> None:
    def observer(reached: str) -> None:
        if reached == step:
            action()

    steps.observe(observer)


def by_quarantine(cache: FileCache) -> bool:
    tree = open_tree(cache.root, "2+2")
    return Quarantine(tree, Trash(tree, ManualClock())).forget([DIGEST]) == [DIGEST]


def by_upkeep(cache: FileCache) -> bool:
    tree = open_tree(cache.root, "2+2")
    return Orphans(tree, EntryFiles(tree)).remove(Orphan(ENTRY, tree.entry(DIGEST), DIGEST))


both = pytest.mark.parametrize("forget", [by_quarantine, by_upkeep])


@both
def test_an_entry_whose_object_is_gone_goes(cache: FileCache, forget: Callable[[FileCache], bool]) -> None:
    vacant(cache)
    assert forget(cache)
    assert not [path for path in (cache.root / "entries").rglob("*") if path.is_file()]
    assert list((cache.root / "trash").iterdir()) == []


@both
def test_an_entry_whose_object_is_there_stays(cache: FileCache, forget: Callable[[FileCache], bool]) -> None:
    cache.put("k", DATA)
    assert not forget(cache)
    assert cache.path("k").read_bytes() == DATA


@both
@pytest.mark.parametrize("body", [DATA, b"newer"])
def test_an_entry_that_is_written_between_the_look_and_the_removal_stays(
    cache: FileCache, forget: Callable[[FileCache], bool], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    vacant(cache)
    other, left = FileCache(cache.root), [True]
    unlink, rename = os.unlink, os.rename

    def overtaken(action: Callable[..., None]) -> Callable[..., None]:
        def removal(path: str, *more: object, **options: object) -> None:
            if str(path).endswith(f"{DIGEST}.json") and left.pop():
                left.append(False)
                other.put("k", body)
            action(path, *more, **options)

        return removal

    monkeypatch.setattr(os, "unlink", overtaken(unlink))
    monkeypatch.setattr(os, "rename", overtaken(rename))
    forget(cache)
    assert not left[0]
    assert cache.path("k").read_bytes() == body


def test_an_entry_whose_object_is_published_while_it_goes_gets_its_name_back(cache: FileCache) -> None:
    vacant(cache)
    at("evict.judged", lambda: cache.put("k", DATA))
    assert remove_vacant(open_tree(cache.root, "2+2"), [DIGEST]) == []
    assert cache.path("k").read_bytes() == DATA


KILLED = """
import os, signal, sys
from stager import steps
from stager.cache.eviction import Evictor, Victim
from stager.cache.store import FileCache
from stager.cache.tree import open_tree
from stager.model.keys import key_digest
from hashlib import sha256

cache = FileCache(sys.argv[1])
cache.put("k", b"old")

def observer(reached):
    if reached == "evict.judged":
        FileCache(sys.argv[1]).put("k", b"data")
    elif reached == "evict.aside":
        os.kill(os.getpid(), signal.SIGKILL)

steps.observe(observer)
Evictor(open_tree(sys.argv[1], "2+2")).evict([Victim(sha256(b"old").hexdigest(), 3, (key_digest("k"),))])
"""


@pytest.fixture
def killed(cache: FileCache) -> FileCache:
    """An eviction was killed when it had put the entry of another object aside."""
    done = subprocess.run([sys.executable, "-c", KILLED, cache.root], check=False, timeout=60)
    assert done.returncode == -9
    assert cache.lookup("k") is None
    return cache


def test_the_next_process_gives_an_entry_back_that_a_killed_eviction_had_put_aside(killed: FileCache) -> None:
    assert killed.sweep() == 1
    assert killed.path("k").read_bytes() == DATA
    assert list((killed.root / "trash").iterdir()) == []


def test_it_is_given_back_where_links_are_refused_too(
    killed: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        assert give_back_entries(killed.tree) == 1
    assert killed.path("k").read_bytes() == DATA


def test_a_key_that_has_an_entry_again_keeps_that(killed: FileCache) -> None:
    killed.put("k", b"newest")
    assert killed.sweep() == 0
    assert killed.path("k").read_bytes() == b"newest"
    assert list((killed.root / "trash").iterdir()) == []


def test_an_entry_whose_object_is_gone_by_now_is_not_given_back(killed: FileCache) -> None:
    killed.object_path(sha256(DATA).hexdigest()).unlink()
    assert killed.sweep() == 0
    assert killed.lookup("k") is None
    assert list((killed.root / "trash").iterdir()) == []


def test_upkeep_gives_back_what_an_eviction_on_another_host_left_long_ago(killed: FileCache) -> None:
    (left,) = (killed.root / "trash").iterdir()
    foreign = left.rename(left.with_name(f"{EVICTING}elsewhere-0000aaaa-1-1-0"))
    os.utime(foreign, (1, 1))
    assert killed.sweep() == 0, "nothing is known of its owner"
    tree = open_tree(killed.root, "2+2")
    orphans = Orphans(tree, EntryFiles(tree))
    orphans.begin()
    (found,) = orphans.files()
    assert found.kind == THROWN
    orphans.remove(found)
    assert killed.path("k").read_bytes() == DATA
    assert not foreign.exists()

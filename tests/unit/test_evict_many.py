"""Evicting with several processes: what each of them does is what one alone would have done."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache import evict_many
from stager.cache.evict_many import Crew
from stager.cache.eviction import Evictor, Fate, Victim
from stager.cache.store import FileCache
from stager.cache.trash import Trash
from stager.cache.tree import open_tree
from stager.clock import ManualClock
from stager.errors import CacheError
from stager.model.keys import key_digest

COUNT = 40
TELL = {"held": (), "force": False, "at_once": False, "dry_run": False}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileCache:
    monkeypatch.setattr(evict_many, "MANY", 10)
    cache = FileCache(tmp_path / "c", remember=0)
    for number in range(COUNT):
        cache.put(f"k{number}", body(number))
    return cache


@pytest.fixture
def crew(cache: FileCache) -> Iterator[Crew]:
    made = Crew(Evictor(open_tree(cache.root, "2+2")), 2)
    yield made
    made.close()


def body(number: int) -> bytes:
    return f"body {number}".encode()


def victims(numbers: range) -> list[Victim]:
    return [
        Victim(sha256(body(number)).hexdigest(), len(body(number)), (key_digest(f"k{number}"),))
        for number in numbers
    ]


def test_what_does_not_simply_go_is_told_and_all_the_rest_is_gone(cache: FileCache, crew: Crew) -> None:
    held, promised, gone = (sha256(body(number)).hexdigest() for number in (3, 4, 5))
    cache.pin("job", "input", held, len(body(3)))
    cache.put("k4", body(4), keep_until=1e11)
    cache.object_path(gone).unlink()
    last = sha256(body(COUNT - 1)).hexdigest()
    told = crew.begin(victims(range(COUNT)), held={last}, force=False, at_once=False, dry_run=False)()
    assert {name: one.fate for name, one in told.items()} == {
        held: Fate.HELD,
        promised: Fate.PROMISED,
        gone: Fate.GONE,
        last: Fate.HELD,
    }
    assert told[gone].freed == 0
    assert told[held].file is not None
    assert set(cache) == {"k3", "k4", f"k{COUNT - 1}"}
    assert not list((cache.root / "trash").iterdir())


def test_more_may_be_begun_before_the_first_are_over(cache: FileCache, crew: Crew) -> None:
    answers = [crew.begin(victims(range(start, start + 10)), **TELL) for start in range(0, COUNT, 10)]  # type: ignore[arg-type]
    assert [answer() for answer in answers] == [{}] * 4
    assert list(cache) == []


def test_few_or_what_goes_to_the_trash_or_a_dry_run_needs_no_process(
    cache: FileCache, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    assert crew.begin(victims(range(9)), **TELL)() == {}  # type: ignore[arg-type]
    assert crew.begin(victims(range(9, COUNT)), held=(), force=False, at_once=False, dry_run=True)() == {}
    assert len(cache) == COUNT - 9
    tree = open_tree(cache.root, "2+2")
    throwing = Crew(Evictor(tree, Trash(tree, ManualClock())), 2)
    assert throwing.begin(victims(range(9, COUNT)), **TELL)() == {}  # type: ignore[arg-type]
    assert len(cache) == 0


def test_a_process_that_is_killed_is_said_and_what_it_left_is_evicted_by_the_next(
    cache: FileCache, crew: Crew
) -> None:
    assert crew.begin(victims(range(10)), **TELL)() == {}  # type: ignore[arg-type]
    os.kill(crew._members[0]._process.pid, signal.SIGKILL)
    crew._members[0]._process.wait()
    with pytest.raises(CacheError, match="killed"):
        crew.begin(victims(range(10, COUNT)), **TELL)()  # type: ignore[arg-type]
    assert 0 < len(cache) < COUNT - 10, "the other process has done its part"
    again = Crew(Evictor(open_tree(cache.root, "2+2")), 2)
    again.begin(victims(range(10, COUNT)), **TELL)()  # type: ignore[arg-type]
    again.close()
    assert len(cache) == 0


def test_a_cache_that_goes_is_said(cache: FileCache, crew: Crew) -> None:
    assert crew.begin(victims(range(10)), **TELL)() == {}  # type: ignore[arg-type]
    cache.root.rename(cache.root.with_name("elsewhere"))
    with pytest.raises(CacheError):
        crew.begin(victims(range(10, COUNT)), **TELL)()  # type: ignore[arg-type]
    assert len(FileCache(cache.root.with_name("elsewhere"))) == COUNT - 10

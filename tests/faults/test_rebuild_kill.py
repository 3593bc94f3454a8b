"""A rebuild of the catalogue that is killed at each of its steps, and while it reads; and what a feed takes in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from stager.cache.access import AccessTimes
from stager.cache.store import FileCache
from stager.cache.walk import TreeReader
from stager.cache.walk_many import read_entries
from stager.clock import ManualClock, SystemClock
from stager.errors import CacheError
from stager.model.catalogue import FileRow, Selection, Sort
from stager.model.fetches import FetchState
from stager.model.jobs import JobState
from stager.model.keys import key_digest
from stager.model.records import Changes, FetchRecord, JobRecord
from stager.service.cache_feed import CatalogueFeed
from stager.service.cache_rebuild import SlowWalk, rebuild
from stager.state.catalogue import Catalogue
from stager.steps import MAINTENANCE_STEPS
from tests.support.until import until

STEPS = [step for step in MAINTENANCE_STEPS if step.startswith("rebuild.")]
FILES = 40

CHILD = """
import os, signal, sys
from pathlib import Path
from stager import steps
from stager.cache.walk import TreeReader
from stager.clock import SystemClock
from stager.service.cache_rebuild import rebuild
from stager.state.catalogue import Catalogue

if __name__ == "__main__":
    root, database, step = sys.argv[1:]
    steps.observe(lambda reached: os.kill(os.getpid(), signal.SIGKILL) if reached == step else None)
    for _ in rebuild(TreeReader(root), Catalogue(f"sqlite:///{database}", Path(root)), SystemClock()):
        pass
"""


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    made = FileCache(tmp_path / "cache")
    for n in range(FILES):
        made.put(f"k{n:02}", str(n).encode())
    return made


@pytest.fixture
def catalogue(tmp_path: Path, cache: FileCache) -> Iterator[Catalogue]:
    made = Catalogue(f"sqlite:///{tmp_path / 'catalogue.db'}", cache.root)
    yield made
    made.close()


def done(reader: TreeReader, catalogue: Catalogue) -> None:
    for _ in rebuild(reader, catalogue, SystemClock()):
        pass


def walked(reader: TreeReader, catalogue: Catalogue) -> None:
    walk = SlowWalk(reader, catalogue, SystemClock())
    while not walk.step():
        pass


@pytest.mark.parametrize("step", STEPS)
def test_killed_and_run_again_a_rebuild_is_complete_and_has_kept_what_was_counted(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    cache: FileCache,
    catalogue: Catalogue,
    step: str,
) -> None:
    waiting = tmp_path_factory.mktemp("waiting")
    reader = TreeReader(cache.root)
    done(reader, catalogue)
    catalogue.accessed({key_digest("k07"): time.time() + 9})
    cache.remove("k01")
    cache.put("new", b"new")
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(cache.root), str(tmp_path / "catalogue.db"), step],
        check=False,
        capture_output=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(waiting), "SQLITE_TMPDIR": str(waiting)},
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not list(waiting.iterdir()), "what waited there to go in is gone"
    assert {one.key for one in catalogue.ls(Selection())} >= {f"k{n:02}" for n in range(2, FILES)}
    done(reader, catalogue)
    found = catalogue.ls(Selection(), Sort.HITS, limit=None)
    assert {one.key for one in found} == {"new", "k00"} | {f"k{n:02}" for n in range(2, FILES)}
    assert (found[0].key, found[0].hits) == ("k07", 1)
    assert catalogue.size()[0] == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) in (
        ["cache", "catalogue.db", "catalogue.db-shm", "catalogue.db-wal"],
        ["cache", "catalogue.db"],
    )


def test_several_processes_read_what_one_reads(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stager.cache.walk_many.MANY", 0)
    reader = TreeReader(cache.root)
    parts = reader.parts("entries", 1)
    alone = sorted(row for _, rows in read_entries(reader, parts, 1) for row in rows)
    spread = sorted(row for _, rows in read_entries(reader, parts, 3) for row in rows)
    assert len(alone) == FILES
    assert spread == alone


def test_processes_that_read_end_with_whoever_started_them(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stager.cache.walk_many.MANY", 0)
    reader = TreeReader(cache.root)
    pieces = read_entries(reader, reader.parts("entries", 1), 2)
    before = _children()
    for _ in range(4):
        next(pieces)
    assert len(_children()) > len(before)
    pieces.close()  # type: ignore[attr-defined]  # a generator
    until(lambda: _children() <= before, "they are gone")


def _children() -> set[str]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= set((task / "children").read_text().split())
    return {child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


def test_what_is_restricted_or_has_lost_its_object_is_told_apart(
    cache: FileCache, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    look = TreeReader.rows

    def noted(self: TreeReader, digests: Iterable[str]) -> dict[str, FileRow]:
        looked.extend(wanted := list(digests))
        return look(self, wanted)

    monkeypatch.setattr(TreeReader, "rows", noted)
    kept = cache.put("kept", b"kept")
    cache.put("secret", b"secret", restricted=True)
    cache.object_path(cache.put("lost", b"lost").object).unlink()
    done(TreeReader(cache.root), catalogue)
    assert len(looked) <= 2, "only what is in doubt is looked at one by one"
    keys = {one.key: one for one in catalogue.ls(Selection(), limit=None)}
    assert keys["kept"].object == kept.object
    assert keys["secret"].restricted
    assert "lost" not in keys


@pytest.mark.parametrize("how", ["slow", "whole"])
def test_a_cache_that_has_gone_empties_no_catalogue(cache: FileCache, catalogue: Catalogue, how: str) -> None:
    reader = TreeReader(cache.root)
    done(reader, catalogue)
    cache.root.rename(cache.root.with_name("elsewhere"))
    cache.root.mkdir()
    with pytest.raises(CacheError):
        (done if how == "whole" else walked)(reader, catalogue)
    assert catalogue.count(Selection()) == FILES


def test_what_jobs_are_given_counts_as_used(cache: FileCache, catalogue: Catalogue) -> None:
    used: list[str] = []

    class Noted(AccessTimes):
        def used(self, digests: Iterable[str]) -> None:
            used.extend(digests)

    access = Noted(lambda _digest, _when: True, ManualClock())
    records = {"f1": FetchRecord("f1", "k03", state=FetchState.READY)}

    def fetches(ids: Sequence[str]) -> dict[str, FetchRecord]:
        return {name: records[name] for name in ids if name in records}

    feed = CatalogueFeed(
        TreeReader(cache.root), catalogue, access, fetches, SystemClock(), every_seconds=3600.0
    )
    feed.start()
    feed.tell(Changes([JobRecord("j1", ("f1", "gone"), (), state=JobState.RUNNING)], [], []))
    feed.tell(Changes([], [FetchRecord("f2", "k04", state=FetchState.READY)], []))
    feed.accessed({key_digest("k04"): time.time() + 9})
    feed.close()
    assert used == [key_digest("k03")]
    assert catalogue.ls(Selection(), Sort.HITS)[0].key == "k04"

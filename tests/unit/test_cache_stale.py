"""A call over NFS to what another host renames or removes just then answers ESTALE: it is made again, whichever it is.

Each operation is done once to count its calls by path, then once more for each place in the code that
makes one, which is stale a few times.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stager.cache.entries import EntryFiles
from stager.cache.entry_removal import remove_vacant
from stager.cache.eviction import Evictor, Victim
from stager.cache.migrate import Migration
from stager.cache.orphans import OBJECT, YOUNG_SECONDS, NamedObjects, Orphans
from stager.cache.pace import Pace
from stager.cache.pin_files import PinFiles
from stager.cache.quarantine import Quarantine
from stager.cache.scrub import ObjectName, Scrubbed, Scrubber
from stager.cache.store import FileCache
from stager.cache.trash import Trash
from stager.cache.tree import open_tree
from stager.cache.walk import TreeReader, walk
from stager.clock import ManualClock
from stager.errors import CacheIOError
from stager.model.keys import key_digest
from stager.model.pins import Pin

DATA = b"bytes of an object"
SHA = sha256(DATA).hexdigest()
CALLS = (
    "link", "listdir", "lstat", "mkdir", "open", "readlink", "rename", "rmdir", "scandir", "stat", "symlink", "unlink",
    "utime",
)  # fmt: skip
TIMES = 3
"""So often in a row: once is what the kernel itself makes up for."""


class Stale:
    """Of the calls that the cache makes by path that of number `at` is stale so many times; `always`: all of them."""

    def __init__(self, at: int | None = None, *, always: bool = False) -> None:
        self.places: dict[str, int] = {}
        """Where the cache makes such calls, and the number of the first one of each."""
        self._calls = 0
        self.victim: Any = None
        """What was stale: the call and its arguments."""
        self._at = at
        self._left = TIMES
        self._always = always

    @contextmanager
    def patched(self) -> Iterator[Stale]:
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._call(name, getattr(os, name)))
            yield self

    def _call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            caller = sys._getframe(1)
            while caller.f_code.co_name in {"samefile", "unless_stale"} and caller.f_back is not None:
                caller = caller.f_back
            if caller.f_globals["__name__"].startswith("stager.cache.") and not isinstance(args[0], int):
                self._count(name, args, f"{name} in {caller.f_code.co_qualname}:{caller.f_lineno}")
            return real(*args, **more)

        return call

    def _count(self, name: str, args: tuple[Any, ...], place: str) -> None:
        if (name, args) != self.victim:
            self._calls += 1
            self.places.setdefault(place, self._calls)
            if self._calls == self._at:
                self.victim = (name, args)
        if self._always or ((name, args) == self.victim and self._left):
            self._left -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), args[0])


class Bench:
    """A cache with one object under two keys, on what is taken for a network file system."""

    def __init__(self, root: Path) -> None:
        self.cache = FileCache(root, remember=0)
        for key in ("a", "b"):
            self.cache.put(key, DATA)
        self.cache.tree.remote = True
        self.tree = open_tree(root, "2+2")
        self.tree.remote = True
        self.trash = Trash(self.tree, ManualClock())
        self.victim = Victim(SHA, len(DATA), (key_digest("a"), key_digest("b")))

    def names(self, folder: str) -> list[str]:
        """Of all files there."""
        return sorted(path.name for path in (self.cache.root / folder).rglob("*") if path.is_file())

    def object(self) -> Path:
        return Path(self.tree.object(SHA))


def evict(bench: Bench) -> object:
    evictor = Evictor(bench.tree, bench.trash)
    return [(one.fate, sorted(one.digests), one.freed) for one in evictor.evict([bench.victim])]


def evict_what_a_job_holds(bench: Bench) -> object:
    bench.cache.pin("job", "input", SHA, len(DATA))
    return [one.fate for one in Evictor(bench.tree, bench.trash).evict([bench.victim])]


def evict_what_is_pinned(bench: Bench) -> object:
    PinFiles(bench.tree).pin(Pin(SHA, "user:ada"))
    fate = [one.fate for one in Evictor(bench.tree, bench.trash).evict([bench.victim])]
    return fate, [pin.holder for pin in PinFiles(bench.tree)]


def pin_and_unpin(bench: Bench) -> object:
    files, pin = PinFiles(bench.tree), Pin(SHA, "user:ada")
    files.pin(pin)
    held = [one.holder for one in files.of(SHA)]
    assert files.bring_back(SHA)
    return held, files.unpin(SHA, pin.id), files.of(SHA), bench.names("pins")


def put_get_and_remove(bench: Bench) -> object:
    bench.cache.put("new", b"new")
    bench.cache.put("new", b"newer")
    path = bench.cache.path("new")
    entry = bench.cache.lookup("new")
    assert entry is not None
    return path.read_bytes(), entry.size, bench.cache.remove("new"), bench.cache.get("new"), path.exists()


def link_into_jobs(bench: Bench) -> object:
    data = [Path(bench.cache.pin("job", name, SHA, len(DATA))).read_bytes() for name in ("x", "y")]
    bench.cache.unpin("job")
    return data


def migrate(bench: Bench) -> object:
    migration = Migration(bench.cache.root, "4", grace_seconds=0.0)
    for _ in migration.run(lambda _: None):
        pass
    return sorted(bench.cache), bench.names("objects")


def list_all(bench: Bench) -> object:
    rows = {
        str(row[0]) for piece in walk(TreeReader(bench.cache.root)) for row in piece if isinstance(row, tuple)
    }
    return rows, sorted(bench.cache)


def clear_an_orphan(bench: Bench) -> object:
    orphans = Orphans(bench.tree, EntryFiles(bench.tree))
    orphans.begin()
    orphans._now += 2 * YOUNG_SECONDS
    for path in (bench.cache.root / "entries").rglob("*.json"):
        path.unlink()
    (found,) = orphans.objects(NamedObjects())
    assert found.kind == OBJECT
    return orphans.remove(found), bench.names("objects")


def verify(bench: Bench) -> object:
    sound = Scrubber(bench.tree, Pace(None), threads=1).scrub(ObjectName(SHA)).condition
    bench.object().chmod(0o644)
    bench.object().write_bytes(b"?" * len(DATA))
    found = Scrubber(bench.tree, Pace(None), threads=1).scrub(ObjectName(SHA))
    quarantine = Quarantine(bench.tree, Trash(bench.tree, ManualClock()))
    assert isinstance(found, Scrubbed)
    taken = quarantine.take(found)
    return sound, found.condition, taken, sorted(quarantine.forget(bench.victim.digests)), quarantine.held()


def forget_vacant(bench: Bench) -> object:
    bench.object().unlink()
    return sorted(remove_vacant(bench.tree, bench.victim.digests))


def note_accesses(bench: Bench) -> object:
    (entry,) = (path for path in (bench.cache.root / "entries").rglob(f"{key_digest('a')}.json"))
    os.utime(str(entry), (1000, 1000))
    bench.cache.access.note(key_digest("a"), 0.0)
    bench.cache.access.flush()
    return bench.cache.last_access("a") != 1000


OPERATIONS = [
    evict, evict_what_a_job_holds, evict_what_is_pinned, pin_and_unpin, put_get_and_remove, link_into_jobs, migrate,
    list_all, clear_an_orphan, verify, forget_vacant, note_accesses,
]  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
def test_whichever_call_is_stale_the_operation_does_what_it_does(
    tmp_path: Path, operation: Callable[[Bench], object]
) -> None:
    def play(name: str, at: int | None) -> tuple[object, Stale]:
        bench = Bench(tmp_path / name)
        with Stale(at).patched() as stale:
            return operation(bench), stale

    expected, counted = play("usual", None)
    assert counted.places
    for at in counted.places.values():
        done, stale = play(str(at), at)
        assert done == expected, f"after a stale {stale.victim}"


def test_a_mount_that_stays_stale_is_said_and_costs_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "c")
    there = {folder: bench.names(folder) for folder in ("entries", "objects", "trash")}
    with Stale(always=True).patched():
        for action in (
            lambda: bench.cache.lookup("a"),
            lambda: bench.cache.put("c", b"more"),
            lambda: bench.cache.remove("a"),
            lambda: Evictor(bench.tree, bench.trash).evict([bench.victim]),
            lambda: remove_vacant(bench.tree, bench.victim.digests),
        ):
            with pytest.raises(CacheIOError, match="Stale"):
                action()
    assert {folder: bench.names(folder) for folder in there} == there

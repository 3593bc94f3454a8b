"""A file cache that is moved from layout to layout, seen from processes that know of it and others, against a dictionary."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from shutil import rmtree

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stager.cache.migrate import Migration, Progress
from stager.cache.store import RECHECK_SECONDS, FileCache
from stager.clock import ManualClock
from stager.errors import ConflictError

LAYOUTS = st.sampled_from(["2+2", "4+4", "flat", "2", "1+1"])
KEYS = st.sampled_from([f"https://h/{number}" for number in range(6)])
DATA = st.sampled_from([b"", b"x", b"same", b"much" * 2000])
WHO = st.integers(0, 2)
GRACE = 30.0


class MigrationMachine(RuleBasedStateMachine):
    """Three caches on one directory, of which some were opened before a migration began."""

    @initialize(shards=LAYOUTS)
    def start(self, shards: str) -> None:
        self.clock = ManualClock()
        self.root = Path(tempfile.mkdtemp()) / "c"
        self.caches = [FileCache(self.root, shards=shards, clock=self.clock) for _ in range(3)]
        self.model: dict[str, bytes] = {}
        self.handed: dict[Path, tuple[bytes, float]] = {}
        self.pinned: dict[Path, bytes] = {}
        self.migrations: list[Iterator[Progress]] = []

    @rule(who=WHO, key=KEYS, data=DATA)
    def put(self, who: int, key: str, data: bytes) -> None:
        self.caches[who].put(key, data)
        self.model[key] = data
        self.clock.advance(RECHECK_SECONDS)

    @rule(who=WHO, key=KEYS)
    def remove(self, who: int, key: str) -> None:
        assert self.caches[who].remove(key) == (self.model.pop(key, None) is not None)
        self.handed.clear()
        self.clock.advance(RECHECK_SECONDS)

    @rule(who=WHO, key=KEYS)
    def get(self, who: int, key: str) -> None:
        found = self.caches[who].get(key)
        assert (found and found.read_bytes()) == self.model.get(key)
        if found is not None:
            self.handed[found] = (self.model[key], self.clock.now + GRACE - RECHECK_SECONDS)

    @rule(who=WHO, key=KEYS)
    def lookup(self, who: int, key: str) -> None:
        entry = self.caches[who].lookup(key)
        wanted = self.model.get(key)
        assert (entry and entry.object) == (None if wanted is None else sha256(wanted).hexdigest())
        assert entry is None or self.caches[who].has_object(entry.object, entry.size)

    @rule(who=WHO, key=KEYS)
    def pin(self, who: int, key: str) -> None:
        entry = self.caches[who].lookup(key)
        if entry is not None:
            name = f"input-{len(self.pinned)}"
            path = self.caches[who].pin("job", name, entry.object, entry.size)
            self.pinned[path] = self.model[key]

    @rule(who=WHO)
    def walk(self, who: int) -> None:
        assert sorted(self.caches[who]) == sorted(self.model)

    @rule(who=WHO)
    def open_anew(self, who: int) -> None:
        self.caches[who].close()
        self.caches[who] = FileCache(self.root, clock=self.clock)

    @precondition(lambda self: len(self.migrations) < 2)
    @rule(shards=LAYOUTS)
    def begin_to_migrate(self, shards: str) -> None:
        migration = Migration(self.root, shards, grace_seconds=GRACE, clock=self.clock)
        self.migrations.append(migration.run(self.clock.advance))

    @precondition(lambda self: self.migrations)
    @rule(which=st.integers(0, 1), steps=st.integers(1, 12))
    def migrate_on(self, which: int, steps: int) -> None:
        migration = self.migrations[which % len(self.migrations)]
        try:
            for _ in range(steps):
                next(migration)
        except (StopIteration, ConflictError):
            self.migrations.remove(migration)

    @precondition(lambda self: self.migrations)
    @rule()
    def kill_a_migration(self) -> None:
        self.migrations.pop()

    @invariant()
    def paths_stay_good_and_jobs_keep_their_inputs(self) -> None:
        if not hasattr(self, "handed"):
            return
        for path, (data, until) in self.handed.items():
            assert self.clock.now > until or path.read_bytes() == data
        for path, data in self.pinned.items():
            assert path.read_bytes() == data

    def teardown(self) -> None:
        if not hasattr(self, "root"):
            return
        self.clock.advance(RECHECK_SECONDS)
        for _ in Migration(self.root, "3", grace_seconds=0, clock=self.clock).run(self.clock.advance):
            pass
        for cache in (*self.caches, FileCache(self.root)):
            assert {key: cache.path(key).read_bytes() for key in cache} == self.model
            cache.close()
        objects = [p for p in (self.root / "objects").rglob("*") if p.is_file()]
        assert {len(p.relative_to(self.root).parts) for p in objects} <= {3}
        rmtree(self.root.parent)


MigrationMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_a_cache_is_what_a_dictionary_is_while_it_is_moved = MigrationMachine.TestCase

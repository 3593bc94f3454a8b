"""A file cache, seen from two processes, against a dictionary."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from shutil import rmtree

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stager.cache.store import RECHECK_SECONDS, FileCache
from stager.clock import ManualClock
from stager.model.entries import Entry

KEYS = st.sampled_from(["a", "b", "https://host/c?d=e", "../up", ""])
CONTENTS = {"none": b"", "one": b"x", "same": b"same", "much": bytes(70_000)}
DATA = st.sampled_from(sorted(CONTENTS)).map(lambda name: CONTENTS[name])
WHO = st.integers(0, 1)


class CacheMachine(RuleBasedStateMachine):
    """Two caches on one directory: what one does, the other sees (within a second, so time moves)."""

    @initialize(shards=st.sampled_from(["2+2", "1", "1+1+1"]), remember=st.sampled_from([0, 2, 100]))
    def start(self, shards: str, remember: int) -> None:
        self.clock = ManualClock()
        self.root = Path(tempfile.mkdtemp())
        self.remember = remember
        self.caches = [
            FileCache(self.root / "c", shards=shards, remember=remember, clock=self.clock) for _ in range(2)
        ]
        self.model: dict[str, bytes] = {}
        self.pinned: dict[str, bytes] = {}

    def later(self) -> None:
        self.clock.advance(RECHECK_SECONDS)

    @rule(who=WHO, key=KEYS, data=DATA)
    def put(self, who: int, key: str, data: bytes) -> None:
        entry = self.caches[who].put(key, data)
        assert (entry.object, entry.size) == (sha256(data).hexdigest(), len(data))
        self.model[key] = data

    @rule(who=WHO, key=KEYS, data=DATA)
    def put_file(self, who: int, key: str, data: bytes) -> None:
        self.caches[who].put(key, io.BytesIO(data))
        self.model[key] = data

    @rule(who=WHO, key=KEYS, parts=st.lists(DATA, max_size=4))
    def write(self, who: int, key: str, parts: list[bytes]) -> None:
        with self.caches[who].open(key, "wb") as file:
            for part in parts:
                file.write(part)
        self.model[key] = b"".join(parts)

    @rule(who=WHO, key=KEYS, data=DATA)
    def write_and_give_up(self, who: int, key: str, data: bytes) -> None:
        with suppress(ZeroDivisionError), self.caches[who].open(key, "wb") as file:
            file.write(data)
            raise ZeroDivisionError

    @rule(who=WHO, key=KEYS, data=DATA, tries=st.integers(1, 3))
    def fetch(self, who: int, key: str, data: bytes, tries: int) -> None:
        """In several tries, each going on where the last broke off, by either process."""
        step = len(data) // tries + 1
        for number in range(tries):
            cache = self.caches[(who + number) % 2]
            partial = cache.claim_partial(key, number + 1)
            assert os.pread(partial.fd, len(data) + 1, 0) == data[: partial.size]
            partial.write_sidecar({"try": number})
            os.pwrite(partial.fd, data[partial.size : partial.size + step], partial.size)
            partial.keep()
        cache = self.caches[who]
        partial = cache.claim_partial(key, tries + 1)
        assert partial.size == len(data)
        digest = sha256(data).hexdigest()
        cache.publish(partial, digest, len(data))
        cache.record(Entry(key, digest, len(data), self.clock.time()))
        self.model[key] = data

    @rule(who=WHO, key=KEYS)
    def get(self, who: int, key: str) -> None:
        self.later()
        found = self.caches[who].get(key)
        assert (None if found is None else found.read_bytes()) == self.model.get(key)
        assert self.caches[who].get(key) == found

    @rule(who=WHO, key=KEYS)
    def read(self, who: int, key: str) -> None:
        self.later()
        if key in self.model:
            with self.caches[who].open(key) as file:
                assert file.read() == self.model[key]

    @rule(who=WHO, key=KEYS)
    def lookup(self, who: int, key: str) -> None:
        entry = self.caches[who].lookup(key)
        if key in self.model:
            assert entry is not None
            assert (entry.key, entry.object) == (key, sha256(self.model[key]).hexdigest())
        else:
            assert entry is None

    @rule(who=WHO, key=KEYS)
    def remove(self, who: int, key: str) -> None:
        assert self.caches[who].remove(key) == (key in self.model)
        self.model.pop(key, None)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        """Somebody removes an object behind the cache's back."""
        lost = self.model[data.draw(st.sampled_from(sorted(self.model)))]
        self.caches[0].object_path(sha256(lost).hexdigest()).unlink()
        for cache in self.caches:  # forget the keys altogether, as eviction does
            for key in [key for key, held in self.model.items() if held == lost]:
                cache.remove(key)
        self.model = {key: held for key, held in self.model.items() if held != lost}

    @precondition(lambda self: self.model)
    @rule(who=WHO, data=st.data(), name=st.sampled_from(["in", "out"]))
    def pin(self, who: int, data: st.DataObject, name: str) -> None:
        held = self.model[data.draw(st.sampled_from(sorted(self.model)))]
        self.caches[who].pin("job", name, sha256(held).hexdigest(), len(held))
        self.pinned[name] = held

    @rule(who=WHO)
    def unpin(self, who: int) -> None:
        self.caches[who].unpin("job")
        self.pinned.clear()

    @rule(who=WHO)
    def reopen(self, who: int) -> None:
        self.caches[who] = FileCache(self.root / "c", remember=self.remember, clock=self.clock)

    @rule(who=WHO)
    def listing(self, who: int) -> None:
        self.later()
        assert sorted(self.caches[who]) == sorted(self.model)
        assert len(self.caches[who]) == len(self.model)

    @invariant()
    def every_object_is_whole_and_nothing_is_left_over(self) -> None:
        if not hasattr(self, "root"):
            return
        root = self.root / "c"
        for path in root.glob("objects/**/*"):
            if path.is_file() and path.suffix == "":
                assert sha256(path.read_bytes()).hexdigest() == path.name
        assert [p for p in root.glob("partial/**/*") if p.is_file()] == []
        for name, held in self.pinned.items():
            assert (root / "jobs" / "job" / "inputs" / name).read_bytes() == held

    def teardown(self) -> None:
        if hasattr(self, "root"):
            rmtree(self.root)


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)

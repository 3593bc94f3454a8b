"""What goes, compared with an oracle that looks at everything and knows no index, batch or order of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stager.cache.eviction import Evicted, Evictor, Fate, Victim
from stager.cache.store import FileCache
from stager.cache.trash import Trash
from stager.cache.tree import open_tree
from stager.clock import ManualClock
from stager.model.catalogue import DAY, CachedFile, Kind, Selection, unnamed_key
from stager.model.eviction import YOUNG_SECONDS, Limits, Purge, Purged, Purging
from stager.model.keys import key_digest
from stager.service import eviction_run
from stager.service.cache_eviction import EvictionService, Room
from stager.state.catalogue import Catalogue

NOW = 1_000 * DAY
HOSTS, OWNERS = ("a.test", "b.test"), ("", "ada", "bob")


class Ledger(Evictor):
    """A tree in memory: some objects are held."""

    def __init__(self, held: frozenset[str]) -> None:
        self.held = held
        self.gone: list[str] = []

    def evict(self, victims: Sequence[Victim], **given: object) -> list[Evicted]:
        done = []
        for victim in victims:
            if not victim.whole:
                done.append(Evicted(victim, Fate.FORGOTTEN, list(victim.digests)))
            elif victim.object in self.held:
                fate = Fate.FORGOTTEN if given["force"] else Fate.HELD
                done.append(Evicted(victim, fate, list(victim.digests) if given["force"] else []))
            else:
                self.gone.append(victim.object)
                done.append(Evicted(victim, Fate.GONE, list(victim.digests), victim.size))
        return done


@st.composite
def caches(draw: st.DrawFn) -> list[CachedFile]:
    """Rows with different times of access; some share an object, some are results, some have no name."""
    count = draw(st.integers(0, 14))
    times = draw(st.permutations(range(count)))
    rows: list[CachedFile] = []
    for number, place in enumerate(times):
        used = NOW - 50 * DAY * (place + 1) / 7 - 1
        kind = draw(st.sampled_from([Kind.INPUT, Kind.INPUT, Kind.INPUT, Kind.RESULT, Kind.UNNAMED]))
        named = [row for row in rows if row.kind is not Kind.UNNAMED]
        twin = draw(st.sampled_from(named)) if named and draw(st.integers(0, 4)) == 0 else None
        sha = twin.object if twin and kind is not Kind.UNNAMED else sha256(str(number).encode()).hexdigest()
        size = twin.size if twin and kind is not Kind.UNNAMED else draw(st.integers(1, 50))
        host = draw(st.sampled_from(HOSTS)) if kind is Kind.INPUT else ""
        key = {
            Kind.INPUT: f"http://{host}/{number}",
            Kind.RESULT: f"result:{number}/x",
            Kind.UNNAMED: unnamed_key(sha),
        }[kind]
        stored = draw(st.sampled_from([used, NOW - 60.0])) if kind is Kind.UNNAMED else used
        promise = draw(st.sampled_from([None, NOW + 1.0, NOW - 1.0])) if kind is Kind.RESULT else None
        rows.append(
            CachedFile(
                key_digest(key), key, sha, size, stored, used,
                owner=draw(st.sampled_from(OWNERS)), host=host, keep_until=promise,
            )
        )  # fmt: skip
    return rows


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    return Limits(
        max_cache_bytes=draw(st.sampled_from([0, 40, 120])),
        max_used_percent=100.0,
        low_percent=draw(st.sampled_from([50.0, 90.0])),
        input_days=draw(st.sampled_from([0.0, 30.0])),
        result_promise_days=draw(st.sampled_from([0.0, 20.0])),
        result_days=draw(st.sampled_from([0.0, 40.0])),
        owner_quota_bytes=draw(st.sampled_from([0, 60])),
        protected=draw(st.sampled_from([(), ("http://a.test/*",)])),
    )


@st.composite
def purges(draw: st.DrawFn) -> Purge:
    older = draw(st.sampled_from([None, 0.0, 30 * DAY]))
    size = draw(st.sampled_from([None, None, 0, 40]))
    host = draw(st.sampled_from([None, None, *HOSTS]))
    owner = draw(st.sampled_from([None, None, *OWNERS]))
    urls = draw(st.sampled_from([(), (), ("http://a.test/1", "http://b.test/2", "result:3/x")]))
    results = draw(st.sampled_from([None, None, 30 * DAY]))
    if all(part is None for part in (older, size, host, owner, results)) and not urls:
        older = 10 * DAY
    return Purge(older, size, None, urls, host, owner, results, force=draw(st.booleans()))


class Oracle:
    """Everything, looked at as often as need be."""

    def __init__(
        self, rows: list[CachedFile], limits: Limits, held: frozenset[str], needed: frozenset[str]
    ) -> None:
        self.limits, self.held, self.needed = limits, held, needed
        self.objects: dict[str, list[CachedFile]] = {}
        for row in rows:
            self.objects.setdefault(row.object, []).append(row)
        self.looked: set[str] = set()
        self.gone: list[str] = []

    @property
    def size(self) -> int:
        return sum(rows[0].size for sha, rows in self.objects.items() if sha not in self.gone)

    def may_go(self, rows: list[CachedFile], *, named: bool, force: bool) -> bool:
        sha = rows[0].object
        if sha in self.held or sha in self.needed or sha in self.gone:
            return False
        if rows[0].kind is Kind.UNNAMED:
            return rows[0].stored_at <= NOW - YOUNG_SECONDS
        for row in rows:
            default = (
                row.stored_at + self.limits.result_promise_days * DAY if row.kind is Kind.RESULT else 0.0
            )
            promised = (default if row.keep_until is None else row.keep_until) > NOW
            protected = bool(self.limits.protected) and row.host == "a.test" and not named
            if not force and (promised or protected):
                return False
        return True

    def evict(self, chosen: list[str], goal: int | None, *, named: bool = False, force: bool = False) -> int:
        """Those that may, the longest unused first (of several keys the last use counts), until it is enough."""
        freed = 0
        for sha in sorted(chosen, key=lambda sha: max(row.last_access for row in self.objects[sha])):
            if goal is not None and freed >= goal:
                break
            rows = self.objects[sha]
            if sha not in self.looked and self.may_go(rows, named=named, force=force):
                self.gone.append(sha)
                freed += rows[0].size
            self.looked.add(sha)
        return freed

    def all_of(self, test: object) -> list[str]:
        return [sha for sha, rows in self.objects.items() if all(test(row) for row in rows)]  # type: ignore[operator]


def purged_by_oracle(oracle: Oracle, purge: Purge) -> list[str]:
    goal = None if purge.to_size is None else max(0, oracle.size - purge.to_size)
    named = purge.names
    freed = 0
    if purge.results_older_than is not None and goal != 0:
        before = NOW - purge.results_older_than
        chosen = oracle.all_of(
            lambda row: row.kind is Kind.RESULT and row.stored_at < before and belongs(purge, row)
        )
        freed += oracle.evict(chosen, None, named=named, force=purge.force)
    left = None if goal is None else goal - freed
    if purge.chooses and (left is None or left > 0):
        old = float("inf") if purge.older_than is None else NOW - purge.older_than

        def chosen_by(row: CachedFile) -> bool:
            in_list = not purge.urls or row.key in purge.urls
            return row.last_access < old and belongs(purge, row) and in_list

        if not named and purge.older_than is None:
            unnamed = oracle.all_of(lambda row: row.kind is Kind.UNNAMED)
            left = (left or 0) - oracle.evict(unnamed, left, force=purge.force)
        if left is None or left > 0:
            oracle.evict(oracle.all_of(chosen_by), left, named=named, force=purge.force)
    return oracle.gone


def belongs(purge: Purge, row: CachedFile) -> bool:
    return purge.host in {None, row.host} and purge.owner in {None, row.owner}


def enforced_by_oracle(oracle: Oracle) -> list[str]:
    limits = oracle.limits
    if limits.result_days:
        before = NOW - limits.result_days * DAY
        oracle.evict(oracle.all_of(lambda row: row.kind is Kind.RESULT and row.stored_at < before), None)
    if limits.input_days:
        since = NOW - limits.input_days * DAY
        for kind in (Kind.INPUT, Kind.UNNAMED):
            oracle.evict(
                oracle.all_of(lambda row, kind=kind: row.kind is kind and row.last_access < since), None
            )
    shares: dict[str, int] = {}
    for sha, rows in oracle.objects.items():
        if sha not in oracle.gone:
            shares[rows[0].owner] = shares.get(rows[0].owner, 0) + rows[0].size
    if limits.owner_quota_bytes:
        greedy = {who: size - limits.owner_quota_bytes for who, size in shares.items() if who}
        for who in sorted(greedy, key=lambda who: (-greedy[who], who)):
            if greedy[who] > 0:
                oracle.evict(oracle.all_of(lambda row, who=who: row.owner == who), greedy[who])
    goal = limits.too_large(oracle.size)
    if goal:
        goal -= oracle.evict(oracle.all_of(lambda row: row.kind is Kind.UNNAMED), goal)
    if goal > 0:
        oracle.evict(list(oracle.objects), goal)
    return oracle.gone


def done(work: Generator[Purging, None, Purged]) -> Purged:
    while True:
        try:
            next(work)
        except StopIteration as end:
            purged: Purged = end.value
            return purged


class Bench:
    """A service on a real catalogue, with a scripted tree."""

    def __init__(self, root: Path) -> None:
        self.cache = FileCache(root / "c")
        self.catalogue = Catalogue(f"sqlite:///{root}/catalogue.db", self.cache.root)
        self.digests: list[str] = []

    def fill(
        self, rows: list[CachedFile], limits: Limits, held: frozenset[str]
    ) -> tuple[EvictionService, Ledger]:
        self.catalogue.drop(self.digests)
        self.catalogue.put(rows)
        self.digests = [row.digest for row in rows] + [key_digest(unnamed_key(row.object)) for row in rows]
        clock, tree = ManualClock(NOW), Ledger(held)
        service = EvictionService(
            self.cache,
            self.catalogue,
            tree,
            Trash(open_tree(self.cache.root, "2+2"), clock),
            limits,
            clock,
            holders=lambda _: {},
            is_pinned=lambda _: False,
        )
        service._room = lambda: Room(1, 10**9)  # type: ignore[method-assign]
        return service, tree


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("plan"))
    yield made
    made.catalogue.close()


def one_owner_each(rows: list[CachedFile]) -> list[CachedFile]:
    """With one owner per object: whose share an object counts in is the catalogue's affair."""
    owners: dict[str, str] = {}
    return [replace(row, owner=owners.setdefault(row.object, row.owner)) for row in rows]


picks = st.sets(st.integers(0, 13), max_size=3)


@settings(max_examples=200, deadline=None)
@given(caches(), limits(), purges(), picks, picks, st.sampled_from([1, 2, 256]))
def test_a_purge_evicts_what_the_oracle_does(
    bench: Bench,
    rows: list[CachedFile],
    limits: Limits,
    purge: Purge,
    held: set[int],
    needed: set[int],
    at_once: int,
) -> None:
    objects = [row.object for row in rows]
    holds = frozenset(objects[number] for number in held if number < len(objects))
    needs = frozenset(objects[number] for number in needed if number < len(objects))
    expected = purged_by_oracle(Oracle(rows, limits, holds, needs), purge)
    service, tree = bench.fill(rows, limits, holds)
    service.needed = lambda: needs
    before, eviction_run.FEWEST = eviction_run.FEWEST, at_once
    try:
        dry = done(service.purge(replace(purge, dry_run=True)))
        tree.gone.clear()
        purged = done(service.purge(purge))
    finally:
        eviction_run.FEWEST = before
    left = {row.object for row in bench.catalogue.ls(Selection(), limit=None)}
    assert tree.gone == expected
    assert purged.files == len(expected)
    assert left.isdisjoint(expected)
    assert dry.gone == purged.gone


@settings(max_examples=200, deadline=None)
@given(caches(), limits(), picks)
def test_the_limits_evict_what_the_oracle_does(
    bench: Bench, rows: list[CachedFile], limits: Limits, held: set[int]
) -> None:
    rows = one_owner_each(rows)
    objects = [row.object for row in rows]
    holds = frozenset(objects[number] for number in held if number < len(objects))
    expected = enforced_by_oracle(Oracle(rows, limits, holds, frozenset()))
    service, tree = bench.fill(rows, limits, holds)
    purged = done(service.enforce())
    assert tree.gone == expected
    assert purged.files == len(expected)
    assert done(service.enforce()).files == 0, "a second look finds nothing to do"

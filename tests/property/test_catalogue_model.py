"""The catalogue against a dictionary, and walks through a real tree against a catalogue that is made anew."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import defaultdict
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, settings

from stager.cache.store import FileCache
from stager.cache.walk import TreeReader
from stager.clock import SystemClock
from stager.model.catalogue import CachedFile, Kind, Selection, Share, Sort, host_of, row_of
from stager.model.entries import Entry
from stager.model.keys import key_digest
from stager.service.cache_rebuild import SlowWalk, rebuild
from stager.service.cache_update import update
from stager.state.catalogue import Catalogue

KEYS = [f"https://h{n % 2}.org/{n}" for n in range(4)] + ["result:j/x"]
CONTENTS = ["one", "two", "three"]
OWNERS = ["", "ada", "bob"]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def file(key: str, content: str, owner: str, at: float) -> CachedFile:
    return CachedFile(
        key_digest(key), key, sha(content), len(content), at, at, owner=owner, host=host_of(key)
    )


PUT = st.tuples(st.just("put"), st.sampled_from(KEYS), st.sampled_from(CONTENTS), st.sampled_from(OWNERS))
DROP = st.tuples(st.just("drop"), st.sampled_from(KEYS))
USE = st.tuples(st.just("use"), st.sampled_from(KEYS))
WALK = st.tuples(st.just("walk"), st.booleans())


class Oracle:
    """What the catalogue should know: plain dictionaries."""

    def __init__(self) -> None:
        self.files: dict[str, CachedFile] = {}
        self.hits: dict[str, int] = defaultdict(int)
        self.former: dict[str, str] = {}
        """Object without a name → the key that had it."""

    def put(self, new: CachedFile) -> None:
        old = self.files.get(new.key)
        self.files[new.key] = new
        self.former.pop(new.object, None)
        if old is not None and old.object not in {one.object for one in self.files.values()}:
            self.former[old.object] = old.key

    def objects(self) -> dict[str, int]:
        sizes = {one.object: one.size for one in self.files.values()}
        return sizes | {named: len(content) for content in CONTENTS if (named := sha(content)) in self.former}


@given(st.lists(PUT | DROP | USE | WALK, max_size=25))
@settings(max_examples=60)
def test_the_catalogue_knows_what_a_dictionary_would(steps: list[tuple[str, ...]]) -> None:
    oracle = Oracle()
    with tempfile.TemporaryDirectory() as root:
        catalogue = Catalogue(f"sqlite:///{root}/catalogue.db", Path(root))
        for number, (what, *words) in enumerate(steps):
            at = float(number + 1)
            match what, words:
                case "put", [key, content, owner]:
                    catalogue.put([file(key, content, owner, at)])
                    oracle.put(file(key, content, owner, at))
                case "drop", [key]:
                    catalogue.drop([key_digest(key)])
                    oracle.files.pop(key, None)
                    oracle.hits.pop(key, None)
                case "use", [key]:
                    catalogue.accessed({key_digest(key): at})
                    oracle.hits[key] += key in oracle.files
                case _:
                    _walk(catalogue, oracle, in_one_go=bool(words[0]))
            _agrees(catalogue, oracle)
        catalogue.close()


def _walk(catalogue: Catalogue, oracle: Oracle, *, in_one_go: bool) -> None:
    """A walk that meets exactly what is there."""
    walk = catalogue.begin_walk()
    rows = [row_of(one) for one in oracle.files.values()]
    if in_one_go:
        with catalogue.rebuilding() as rebuilt:
            rebuilt.entries(rows)
            catalogue.merge(rebuilt, walk)
    else:
        catalogue.walked(rows, walk)
    catalogue.walked([row_of(one) for _, one in catalogue.unmet(walk) if one.kind is Kind.UNNAMED], walk)
    catalogue.end_walk(walk, 1.0)


def _agrees(catalogue: Catalogue, oracle: Oracle) -> None:
    rows = catalogue.ls(Selection(), Sort.URL, limit=None)
    named = {one.key: one for one in rows if one.kind is not Kind.UNNAMED}
    assert {key: (one.object, one.owner, one.hits) for key, one in named.items()} == {
        key: (one.object, one.owner, oracle.hits[key]) for key, one in oracle.files.items()
    }
    assert {one.object for one in rows if one.kind is Kind.UNNAMED} == set(oracle.former)
    for sha256, key in oracle.former.items():
        assert sha256 in {one.object for one in catalogue.versions(key_digest(key))}
    sizes = oracle.objects()
    assert catalogue.size() == (len(sizes), sum(sizes.values()))
    shares = catalogue.owners()
    assert sum(share.bytes for share in shares) == sum(sizes.values())
    possible: dict[str, set[str]] = defaultdict(set)
    for one in rows:
        possible[one.object].add(one.owner)
    for share in shares:
        assert share.files <= sum(share.name in owners for owners in possible.values())
        assert share != Share(share.name, 0, 0)


CHANGE = st.tuples(
    st.sampled_from(["put", "remove", "lose", "tear", "alias", "walk", "update", "rebuild"]),
    st.sampled_from(KEYS),
    st.sampled_from(CONTENTS),
)


@given(st.lists(CHANGE, max_size=16))
@settings(max_examples=40)
def test_after_anything_a_walk_leaves_what_a_catalogue_made_anew_has(
    changes: list[tuple[str, str, str]],
) -> None:
    """Whether the walk is a slow one or a rebuild, and whatever the catalogue had heard of before."""
    with tempfile.TemporaryDirectory() as root:
        cache = FileCache(Path(root, "cache"))
        reader = TreeReader(cache.root)
        catalogue = Catalogue(f"sqlite:///{root}/catalogue.db", cache.root)
        for what, key, content in changes:
            _change(cache, reader, catalogue, what, key, content)
        for number, walk in enumerate((_walk_slowly, _rebuild)):
            walk(reader, catalogue)
            new = Catalogue(f"sqlite:///{root}/new{number}.db", cache.root)
            _rebuild(reader, new)
            assert _content(catalogue) == _content(new)
            assert catalogue.size() == new.size()
            new.close()
        catalogue.close()


def _change(
    cache: FileCache, reader: TreeReader, catalogue: Catalogue, what: str, key: str, content: str
) -> None:
    match what:
        case "put":
            cache.put(key, content.encode())
        case "alias":
            cache.publish_bytes(key, content.encode(), sha(content))
            cache.record(Entry(key, sha(content), len(content), stored_at=1.0, owner="ada"))
        case "remove":
            cache.remove(key)
        case "lose":
            cache.object_path(sha(content)).unlink(missing_ok=True)
        case "tear":
            path = Path(cache.tree.entry(key_digest(key)))
            if path.exists():
                os.truncate(path, 10)
        case "walk":
            _walk_slowly(reader, catalogue)
        case "update":
            update(reader, catalogue, [key_digest(key)])
        case _:
            _rebuild(reader, catalogue)


def _walk_slowly(reader: TreeReader, catalogue: Catalogue) -> None:
    walk = SlowWalk(reader, catalogue, SystemClock())
    while not walk.step():
        pass


def _rebuild(reader: TreeReader, catalogue: Catalogue) -> None:
    for _ in rebuild(reader, catalogue, SystemClock(), processes=1):
        pass


def _content(catalogue: Catalogue) -> list[tuple[str, str, int]]:
    return sorted((one.key, one.object, one.size) for one in catalogue.ls(Selection(), limit=None))

"""Several keys with the same bytes: what one of them loses, the others keep."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stager import steps
from stager.cache.store import FileCache
from stager.errors import ObjectLostError
from stager.model.eviction import Purge, Purged
from stager.service.cache_site import CacheSite
from stager.settings import Settings
from stager.wiring.cache import build_cache_site

DATA = b"the same bytes"


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "c", remember=0)


@pytest.fixture(autouse=True)
def unobserved() -> Iterator[None]:
    yield
    steps.observe(None)


def once(step: str, action: Callable[[], object]) -> None:
    """Do something the first time that a step is reached."""
    left = [True]

    def observer(reached: str) -> None:
        if reached == step and left.pop():
            left.append(False)
            action()

    steps.observe(observer)


@pytest.mark.parametrize("kind", ["bytes", "file", "path"])
def test_a_key_whose_object_is_removed_with_another_key_at_that_moment_is_stored_all_the_same(
    cache: FileCache, tmp_path: Path, kind: str
) -> None:
    cache.put("a", DATA)
    other = FileCache(cache.root)
    once("publish.cleaned", lambda: other.remove("a"))
    (tmp_path / "file").write_bytes(DATA)
    file = io.BytesIO(b"skipped" + DATA)
    file.seek(7)
    sources: dict[str, Any] = {"bytes": DATA, "file": file, "path": tmp_path / "file"}
    cache.put("b", sources[kind])
    assert cache.path("b").read_bytes() == DATA


def test_what_can_not_be_read_again_is_refused_when_its_object_goes_at_that_moment(cache: FileCache) -> None:
    cache.put("a", DATA)
    once("publish.cleaned", lambda: FileCache(cache.root).remove("a"))
    read, write = os.pipe()
    os.write(write, DATA)
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as pipe, pytest.raises(ObjectLostError, match="store it again"):
        cache.put("b", pipe)
    assert cache.lookup("b") is None


def test_a_writer_is_told_that_its_object_went_and_the_key_keeps_what_it_had(cache: FileCache) -> None:
    cache.put("a", DATA)
    cache.put("b", b"before")
    once("publish.cleaned", lambda: FileCache(cache.root).remove("a"))
    with pytest.raises(ObjectLostError) as told, cache.open("b", "wb") as file:
        file.write(DATA)
    assert told.value.transient
    assert cache.path("b").read_bytes() == b"before"


def test_an_object_that_gets_another_key_while_the_first_one_is_removed_stays(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("a", DATA)
    path, rename, unlink = str(cache.path("a")), os.rename, os.unlink
    other = FileCache(cache.root)
    left = [True]

    def overtaken(action: Callable[..., None]) -> Callable[..., None]:
        def removal(source: str, *more: object, **options: object) -> None:
            if source == path and left.pop():
                left.append(False)
                other.put("b", DATA)
            action(source, *more, **options)

        return removal

    monkeypatch.setattr(os, "rename", overtaken(rename))
    monkeypatch.setattr(os, "unlink", overtaken(unlink))
    assert cache.remove("a")
    assert other.path("b").read_bytes() == DATA
    assert not [name for _, _, names in os.walk(cache.root / "partial") for name in names]


# -- eviction, by a catalogue that does not know of all of them ------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[CacheSite]:
    (tmp_path / "s").mkdir()
    made = build_cache_site(Settings(cache_dir=tmp_path / "c", state_dir=tmp_path / "s"))
    yield made
    made.close()


def listed(site: CacheSite) -> None:
    for _ in site.files.rebuild():
        pass


def purged(site: CacheSite, purge: Purge) -> Purged:
    work = site.eviction.purge(purge)
    while True:
        try:
            next(work)
        except StopIteration as end:
            done: Purged = end.value
            return done


def test_an_object_that_another_key_got_since_the_catalogue_looked_is_not_evicted(site: CacheSite) -> None:
    site.cache.put("a", DATA)
    listed(site)
    site.cache.put("result:j/x", DATA, keep_until=time.time() + 3600)
    done = purged(site, Purge(to_size=0))
    assert [(tally.reason, tally.files) for tally in done.stayed] == [("young", 1)]
    assert site.cache.path("result:j/x").read_bytes() == DATA
    listed(site)
    assert [tally.reason for tally in purged(site, Purge(to_size=0)).stayed] == ["promised"]


def test_a_promise_that_the_catalogue_does_not_know_of_is_kept(site: CacheSite) -> None:
    site.cache.put("result:j/x", DATA, keep_until=1.0)
    listed(site)
    site.cache.put("result:j/x", DATA, keep_until=time.time() + 3600)
    assert [tally.reason for tally in purged(site, Purge(to_size=0)).stayed] == ["promised"]
    assert site.cache.path("result:j/x").read_bytes() == DATA


def test_all_keys_of_an_object_that_the_catalogue_knows_of_go_with_it(site: CacheSite) -> None:
    site.cache.put("a", DATA)
    site.cache.put("b", DATA)
    listed(site)
    assert purged(site, Purge(to_size=0)).files == 1
    assert list(site.cache) == []

"""Several keys with the same bytes: what one of them loses, the others keep."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stager import steps
from stager.cache.store import FileCache
from stager.errors import ObjectLostError

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
    sources = {"bytes": DATA, "file": file, "path": tmp_path / "file"}
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

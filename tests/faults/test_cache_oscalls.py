"""Each call of the operating system that publishing makes fails once, in every way it can."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import CacheError, CacheFullError, CacheIOError, CachePermissionError

DATA = b"data" * 1000
DIGEST = sha256(DATA).hexdigest()
ERRORS = {
    errno.ENOSPC: CacheFullError,
    errno.EDQUOT: CacheFullError,
    errno.EIO: CacheIOError,
    errno.ESTALE: CacheIOError,
    errno.EACCES: CachePermissionError,
    errno.EROFS: CachePermissionError,
}


class Failing:
    """An `os` function that does its work, or not, and then fails, at its n-th call on the cache."""

    def __init__(self, name: str, number: int, when: int) -> None:
        self.real: Callable[..., Any] = getattr(os, name)
        self.number = number
        self.left = when
        self.closes = name == "close"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left != 0:
            return self.real(*args, **kwargs)
        if self.closes:
            self.real(*args, **kwargs)  # the descriptor is gone even if close fails
        raise OSError(self.number, os.strerror(self.number))


def descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")  # noqa: PTH115
        except FileNotFoundError:  # the listing's own
            continue
    return sorted(found)


def put_bytes(cache: FileCache) -> None:
    cache.put("k", DATA)


def put_named(cache: FileCache) -> None:
    """As where files can't be nameless."""
    cache.tree.nameless = False
    cache.put("k", DATA)


def write_file(cache: FileCache) -> None:
    with cache.open("k", "wb") as file:
        file.write(DATA)


def fetch(cache: FileCache) -> None:
    partial = cache.claim_partial("k")
    try:
        partial.write_sidecar({"etag": "x"})
        try:
            os.pwrite(partial.fd, DATA, 0)
        except OSError:
            partial.discard()
            raise
        cache.publish(partial, DIGEST, len(DATA))
    except CacheError:
        partial.discard()
        raise
    cache.put("k", DATA)


def files(cache: FileCache, directory: str) -> list[Path]:
    return [p for p in (cache.root / directory).rglob("*") if p.is_file() and not p.is_symlink()]


CALLS = [("open", 1), ("open", 2), ("write", 1), ("write", 2), ("fsync", 1), ("fchmod", 1), ("close", 1), ("close", 2),
         ("link", 1), ("link", 2), ("rename", 1), ("rename", 2), ("symlink", 1), ("mkdir", 1), ("mkdir", 3), ("mkdir", 6),
         ("readlink", 1), ("access", 1), ("unlink", 1), ("unlink", 2), ("dup", 1), ("fstat", 1), ("listdir", 1)]  # fmt: skip


@pytest.mark.parametrize("act", [put_bytes, put_named, write_file, fetch])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
@pytest.mark.parametrize(("name", "when"), CALLS)
def test_a_failing_call_shows_nothing_partial_and_leaks_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[FileCache], None],
    name: str,
    when: int,
    number: int,
) -> None:
    cache = FileCache(tmp_path / "c")
    before = descriptors()
    failing = Failing(name, number, when)
    caught: CacheError | None = None
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing)
        try:
            act(cache)
        except CacheError as error:
            caught = error
    if caught:
        assert type(caught) is ERRORS[number]
        assert str(tmp_path) in str(caught)
        assert os.strerror(number) in str(caught)
    assert descriptors() == before
    for path in files(cache, "objects"):
        assert path.suffix == ".shared" or path.read_bytes() == DATA
    other = FileCache(cache.root)
    found = other.get("k")
    assert found is not None or caught
    assert found is None or found.read_bytes() == DATA
    if name != "unlink":  # what could not be removed is removed by the next
        assert [p for p in files(cache, "partial") if p.suffix == ".tmp"] == []
        assert [p for p in files(cache, "entries") if p.suffix != ".json"] == []
    # and afterwards everything works, with what was left
    act(other)
    assert other.path("k").read_bytes() == DATA
    other.claim_partial("k").discard()
    assert descriptors() == before


@pytest.mark.parametrize(("number", "kind"), ERRORS.items(), ids=map(errno.errorcode.get, ERRORS))
def test_what_the_system_says_decides_whether_it_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[CacheError]
) -> None:
    cache = FileCache(tmp_path / "c")
    monkeypatch.setattr(os, "fsync", Failing("fsync", number, 1))
    with pytest.raises(kind) as caught:
        cache.put("k", DATA)
    assert caught.value.transient == (kind is not CachePermissionError)
    assert caught.value.details["errno"] == number


def test_after_a_failed_fsync_the_bytes_are_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FileCache(tmp_path / "c")
    partial = cache.claim_partial("k")
    os.write(partial.fd, DATA)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Failing("fsync", errno.EIO, 1))
        with pytest.raises(CacheIOError):
            cache.publish(partial, DIGEST, len(DATA))
    again = cache.claim_partial("k")
    assert again.size == 0
    again.discard()


def test_bytes_on_stable_storage_are_not_fetched_again_when_the_last_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FileCache(tmp_path / "c")
    partial = cache.claim_partial("k")
    partial.write_sidecar({"etag": "x"})
    os.write(partial.fd, DATA)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", Failing("link", errno.ENOSPC, 1))
        with pytest.raises(CacheFullError):
            cache.publish(partial, DIGEST, len(DATA))
    again = cache.claim_partial("k", 2)
    assert (again.size, again.sidecar()) == (len(DATA), {"etag": "x"})
    assert cache.publish(again, DIGEST, len(DATA)).read_bytes() == DATA


def test_an_unreadable_entry_is_an_error_and_not_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FileCache(tmp_path / "c")
    cache.put("k", DATA)
    assert cache.lookup("k") is not None
    for name, number in (("open", errno.EACCES), ("read", errno.EIO), ("stat", errno.EIO)):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, Failing(name, number, 1))
            with pytest.raises(CacheError, match=os.strerror(number)):
                cache.lookup("k")


def test_a_listing_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FileCache(tmp_path / "c")
    cache.put("k", DATA)
    monkeypatch.setattr(os, "listdir", Failing("listdir", errno.EIO, 2))
    with pytest.raises(CacheIOError, match="can't list"):
        list(cache)

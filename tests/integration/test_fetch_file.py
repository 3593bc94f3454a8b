"""`file:` URLs: only under the allowed directories, noticed when they change, on both drivers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from stager.cache.store import FileCache
from stager.errors import CancelledError, OriginChangedError, OriginRefusedError, SchemeError
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.transfer import blocking, local
from stager.transfer.local import FileTransport
from stager.transfer.options import TransferOptions
from stager.transfer.tries import SMALL_BYTES
from tests.support.commandline import Here
from tests.support.drivers import DRIVERS, AnyFetcher

LARGE = Random(3).randbytes(3 * SMALL_BYTES + 4321)
LONG_AGO = 1_700_000_000

Fetch = Callable[..., FetchResult]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture(params=DRIVERS)
def fetcher(request: pytest.FixtureRequest, tmp_path: Path, root: Path) -> Iterator[AnyFetcher]:
    cache = FileCache(tmp_path / "cache")
    others = FileTransport([root], barred=[root / "private"])
    fetcher = DRIVERS[request.param](cache, others=others)
    yield fetcher
    fetcher.close()


def written(path: Path, data: bytes, when: float = LONG_AGO) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (when, when))
    return path


def order(path: Path | str) -> FetchOrder:
    return FetchOrder("1", 1, FetchRequest(f"file://{path}"))


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_file_is_copied_and_looked_at_each_time(fetcher: AnyFetcher, root: Path, data: bytes) -> None:
    path = written(root / "run 1.dat", data)
    first = fetcher.fetch(order(root / "run%201.dat"))
    assert Path(first.location).read_bytes() == data
    assert not first.cached
    again = fetcher.fetch(order(root / "run%201.dat"))
    assert (again.cached, again.received, again.sha256) == (True, 0, first.sha256)
    written(path, data + b"!", LONG_AGO + 1)
    other = fetcher.fetch(order(root / "run%201.dat"))
    assert not other.cached
    assert Path(other.location).read_bytes() == data + b"!"


def test_a_file_that_was_changed_just_now_is_read_again_though_its_time_is_the_same(
    fetcher: AnyFetcher, root: Path
) -> None:
    now = time.time()
    path = written(root / "a", b"one", now)
    fetcher.fetch(order(path))
    path.write_bytes(b"two")
    os.utime(path, (now, now))
    assert Path(fetcher.fetch(order(path)).location).read_bytes() == b"two"


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.utime(path, (LONG_AGO + 9, LONG_AGO + 9)),
        lambda path: os.truncate(path, SMALL_BYTES),
        lambda path: path.write_bytes(LARGE + b"more"),
    ],
    ids=["written", "shortened", "lengthened"],
)
def test_a_file_that_changes_while_it_is_copied_is_not_kept_and_is_read_anew(
    fetcher: AnyFetcher, root: Path, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(root / "a", LARGE)
    real, reads = os.preadv, []

    def read(fd: int, buffers: list[memoryview], offset: int) -> int:
        reads.append(offset)
        if len(reads) == 2:
            change(path)
        return real(fd, buffers, offset)

    monkeypatch.setattr(local, "READ_BYTES", SMALL_BYTES)
    monkeypatch.setattr(os, "preadv", read)
    with pytest.raises(OriginChangedError) as caught:
        fetcher.fetch(order(path))
    assert caught.value.transient
    assert fetcher.cache.lookup(f"file://{path}") is None
    reads[:] = [0, 0, 0]
    os.utime(path, (LONG_AGO + 10, LONG_AGO + 10))
    result = fetcher.fetch(order(path))
    assert reads[3] == 0
    assert result.resumed_from == 0
    assert Path(result.location).read_bytes() == path.read_bytes()


def test_a_copy_that_was_cancelled_goes_on_where_it_was(
    fetcher: AnyFetcher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(root / "a", LARGE)
    real, reads = os.preadv, []

    def read(fd: int, buffers: list[memoryview], offset: int) -> int:
        if os.fstat(fd).st_ino == path.stat().st_ino:  # and not what was kept, for its digest
            reads.append(offset)
        return real(fd, buffers, offset)

    monkeypatch.setattr(local, "READ_BYTES", SMALL_BYTES)
    monkeypatch.setattr(os, "preadv", read)
    monkeypatch.setattr(blocking, "GATHER_SECONDS", 1e-9)
    with pytest.raises(CancelledError):
        fetcher.fetch(order(path), cancelled=lambda: len(reads) >= 2)
    done = len(reads)
    result = fetcher.fetch(order(path))
    assert SMALL_BYTES <= result.resumed_from < len(LARGE)
    assert reads[done] == result.resumed_from - TransferOptions().overlap_bytes
    assert Path(result.location).read_bytes() == LARGE


def test_point_74_what_is_not_under_an_allowed_directory_is_refused(
    fetcher: AnyFetcher, root: Path, tmp_path: Path
) -> None:
    secret = written(tmp_path / "secret", b"secret")
    beside = written(tmp_path / "data-2" / "a", b"secret")
    (root / "link").symlink_to(secret)
    (root / "up").symlink_to("..")
    written(root / "private" / "token", b"secret")
    (root / "inward").symlink_to(root / "private")
    paths: list[Path | str] = [
        secret, beside, root / ".." / "secret", root / "link", root / "up" / "secret", f"{root}/%2e%2e/secret",
        root / "up" / "no-such-file", root / "private" / "token", root / "inward" / "token", "/etc/passwd",
    ]  # fmt: skip
    for path in paths:
        with pytest.raises(OriginRefusedError, match="not under a directory") as caught:
            fetcher.fetch(order(path))
        assert caught.value.details["status"] == 403


def test_a_link_within_the_directory_is_followed(fetcher: AnyFetcher, root: Path) -> None:
    written(root / "deep" / "a", b"here")
    (root / "link").symlink_to(root / "deep")
    assert Path(fetcher.fetch(order(root / "link" / "a")).location).read_bytes() == b"here"


@pytest.mark.parametrize("swapped", ["file", "directory"])
def test_a_link_that_is_put_in_the_way_after_the_check_leads_nowhere(
    fetcher: AnyFetcher, root: Path, tmp_path: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = written(tmp_path / "elsewhere" / "a", b"secret")
    path = written(root / "sub" / "a", b"fine")
    real = os.path.realpath

    def swap(name: str) -> str:
        found = real(name)
        if swapped == "file":
            path.unlink()
            path.symlink_to(secret)
        else:
            path.parent.rename(root / "moved")
            path.parent.symlink_to(secret.parent)
        return found

    monkeypatch.setattr(os.path, "realpath", swap)
    with pytest.raises(OriginRefusedError, match="no such file"):
        fetcher.fetch(order(path))


def test_only_regular_files_are_read(fetcher: AnyFetcher, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "directory").mkdir()
    for name in ("pipe", "directory"):
        with pytest.raises(OriginRefusedError, match="not a regular file"):
            fetcher.fetch(order(root / name))
    with pytest.raises(OriginRefusedError, match="not a regular file"):
        fetcher.fetch(order(root))
    with pytest.raises(OriginRefusedError, match="no such file") as caught:
        fetcher.fetch(order(root / "nothing"))
    assert caught.value.details["status"] == 404


def test_without_allowed_directories_no_file_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a", b"x")
    fetcher = DRIVERS["requests"](FileCache(tmp_path / "cache"), others=FileTransport([]))
    with pytest.raises(SchemeError, match="file_roots"):
        fetcher.fetch(order(path))
    fetcher.close()


def test_the_command_line_reads_files_under_the_roots_that_are_set(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(root / "a", b"here")
    monkeypatch.setenv("STAGER_FILE_ROOTS", json.dumps([str(root)]))
    done = Here(capsys)("fetch", f"file://{path}", "--cache", tmp_path / "cache")
    assert Path(done.out.strip()).read_bytes() == b"here", done.err

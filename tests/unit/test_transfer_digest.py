"""The digest beside the writer: in step, behind, ahead of nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stager.transfer.buffers import BLOCK_BYTES, BufferPool
from stager.transfer.digest import BUFFERS, FileDigest

DATA = Random(8).randbytes(3 * BLOCK_BYTES + 17)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def nothing() -> None:
    pass


def append(digest: FileDigest, fd: int, data: bytes, offset: int) -> None:
    buffer = digest.take()
    buffer[: len(data)] = data
    os.pwrite(fd, data, offset)
    digest.add(buffer, len(data))


def test_blocks_are_hashed_as_they_come(fd: int) -> None:
    with FileDigest(fd, 0, BufferPool()) as digest:
        for offset in range(0, len(DATA), BLOCK_BYTES):
            append(digest, fd, DATA[offset : offset + BLOCK_BYTES], offset)
        assert digest.result(nothing) == sha256(DATA).hexdigest()


def test_what_was_there_before_is_read_and_hashed_first(fd: int) -> None:
    os.write(fd, DATA)
    with FileDigest(fd, len(DATA), BufferPool()) as digest:
        append(digest, fd, b"more", len(DATA))
        assert digest.result(nothing) == sha256(DATA + b"more").hexdigest()


def test_nothing_has_a_digest_too(fd: int) -> None:
    with FileDigest(fd, 0, BufferPool()) as digest:
        assert digest.result(nothing) == sha256(b"").hexdigest()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(before=st.binary(max_size=99), blocks=st.lists(st.binary(min_size=1, max_size=99), max_size=30))
def test_any_cut_gives_the_digest_of_the_whole(fd: int, before: bytes, blocks: list[bytes]) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, before, 0)
    offset = len(before)
    with FileDigest(fd, offset, BufferPool()) as digest:
        for block in blocks:
            append(digest, fd, block, offset)
            offset += len(block)
        assert digest.result(nothing) == sha256(before + b"".join(blocks)).hexdigest()


def test_a_writer_is_not_held_up_by_a_digest_that_is_behind(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an old part is read again, more blocks come in than there are buffers."""
    os.write(fd, b"old")
    go_on = threading.Event()
    read = os.preadv

    def slow(*args: object) -> int:
        assert go_on.wait(60)
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "preadv", slow)
    with FileDigest(fd, 3, BufferPool()) as digest:
        for number in range(3 * BUFFERS):
            append(digest, fd, b"%02d" % number, 3 + 2 * number)
        go_on.set()
        text = b"old" + b"".join(b"%02d" % number for number in range(3 * BUFFERS))
        assert digest.result(nothing) == sha256(text).hexdigest()


def test_a_file_that_can_not_be_read_fails_both_sides(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fail(*_: object) -> int:
        failed.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with FileDigest(fd, 3, BufferPool()) as digest:
        assert failed.wait(60)
        with pytest.raises(OSError, match="Input/output error"):
            digest.result(nothing)
        for _ in range(BUFFERS):
            digest.take()
        with pytest.raises(OSError, match="Input/output error"):
            digest.take()


def test_a_file_that_lost_bytes_fails(fd: int) -> None:
    with (
        FileDigest(fd, 3, BufferPool()) as digest,
        pytest.raises(OSError, match="shorter than what was written"),
    ):
        digest.result(nothing)


def test_waiting_for_the_result_can_be_given_up(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def slow(*_: object) -> int:
        assert go_on.wait(60)
        raise OSError(5, "too late")

    def give_up() -> None:
        go_on.set()
        raise InterruptedError

    monkeypatch.setattr(os, "preadv", slow)
    with FileDigest(fd, 3, BufferPool()) as digest, pytest.raises(InterruptedError):
        digest.result(give_up)


def test_buffers_come_back_and_are_used_again(fd: int) -> None:
    pool = BufferPool()
    made: set[int] = set()
    for _ in range(3):
        with FileDigest(fd, 0, pool) as digest:
            buffer = digest.take()
            made.add(id(buffer.obj))
            digest.add(buffer, 0)
    assert len(made) <= BUFFERS

"""Bytes end up in the file, whichever way they take."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from stager.transfer import writer as module
from stager.transfer.writer import ALIGNMENT, WRITEBACK_BYTES, FileWriter

BLOCK = 16 * ALIGNMENT
DATA = Random(10).randbytes(40 * BLOCK)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even small files, and wherever the test runs, are written directly (if that is possible there)."""
    monkeypatch.setattr(module, "DIRECT_BYTES", 1)
    monkeypatch.setattr(module, "_is_on_a_disk", lambda _: True)


def write(writer: FileWriter, data: bytes, sizes: list[int]) -> None:
    buffer = memoryview(mmap.mmap(-1, max(len(data), 1)))
    for size in [*sizes, len(data)]:
        piece, data = data[:size], data[size:]
        buffer[: len(piece)] = piece
        writer.append(buffer[: len(piece)])
    writer.close()


PIECES = [[], [BLOCK, BLOCK, BLOCK], [BLOCK, 1, BLOCK], [1, BLOCK], [ALIGNMENT + 1], [0, 0, BLOCK]]


@pytest.mark.parametrize("sizes", PIECES, ids=str)
@pytest.mark.parametrize("start", [0, ALIGNMENT, 7])
@pytest.mark.parametrize("end", [len(DATA), len(DATA) - 1])
@pytest.mark.usefixtures("direct")
def test_a_file_written_directly_is_whole(
    path: Path, fd: int, sizes: list[int], start: int, end: int
) -> None:
    os.pwrite(fd, DATA[:start], 0)
    writer = FileWriter(fd, path, start, end)
    write(writer, DATA[start:end], sizes)
    assert writer.offset == end
    assert path.read_bytes() == DATA[:end]


@pytest.mark.parametrize("sizes", PIECES, ids=str)
def test_a_file_written_through_the_page_cache_is_whole(path: Path, fd: int, sizes: list[int]) -> None:
    write(FileWriter(fd, path, 0, None), DATA, sizes)
    assert path.read_bytes() == DATA


@pytest.mark.usefixtures("direct")
def test_where_direct_writes_are_refused_others_take_over(
    path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def refuse(to: int, data: memoryview, offset: int) -> int:
        if to != fd:
            raise OSError(errno.EINVAL, "Invalid argument")
        return pwrite(to, data, offset)

    monkeypatch.setattr(os, "pwrite", refuse)
    write(FileWriter(fd, path, 0, len(DATA)), DATA, [BLOCK])
    assert path.read_bytes() == DATA


@pytest.mark.usefixtures("direct")
def test_where_direct_files_can_not_be_opened_others_take_over(
    path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "open", refuse)
    write(FileWriter(fd, path, 0, len(DATA)), DATA, [BLOCK])
    monkeypatch.undo()
    assert path.read_bytes() == DATA


def test_an_error_tells_how_much_was_written(path: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite

    def full(to: int, data: memoryview, offset: int) -> int:
        if offset:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(to, data[:100], offset)

    monkeypatch.setattr(os, "pwrite", full)
    writer = FileWriter(fd, path, 0, None)
    with pytest.raises(OSError, match="No space left"):
        writer.append(memoryview(DATA))
    assert writer.offset == 100


def test_the_disk_is_told_to_begin_before_the_end(
    path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, __: told.append((start, size)))
    writer = FileWriter(fd, path, 0, None)
    block = memoryview(bytes(WRITEBACK_BYTES // 2))
    for _ in range(5):
        writer.append(block)
    assert told == [(0, WRITEBACK_BYTES), (WRITEBACK_BYTES, WRITEBACK_BYTES)]


def test_a_small_file_and_one_of_unknown_length_stay_in_memory(
    path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise AssertionError("opened again")

    monkeypatch.setattr(os, "open", fail)
    FileWriter(fd, path, 0, module.DIRECT_BYTES - 1).close()
    FileWriter(fd, path, 0, None).close()

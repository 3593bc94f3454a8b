"""The beginning of a resumed body, compared with what an earlier try left: validators can lie."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

from stager.transfer.asks import Fill
from stager.transfer.buffers import BufferPool
from stager.transfer.growing import GrowingFile
from stager.transfer.transport import Answer


class Filling(Protocol):
    """Reads a body; see `Fill`."""

    def __call__(self, answer: Answer, room: memoryview) -> Generator[Fill, Any, int]:
        """How many bytes are in `room`."""
        ...


def compare(
    file: GrowingFile, at: int, answer: Answer, buffers: BufferPool, fill: Filling
) -> Generator[Fill, Any, int | None]:
    """Read the body, which begins at `at`, up to where the file ends, and compare the two.

    Returns:
        How many bytes are the same, which are less if the body ended earlier; None: they differ.

    Raises:
        CacheError: the file can't be read.
    """
    began, room = at, buffers.take()
    try:
        while at < file.in_place and answer.end is None:
            count = yield from fill(answer, room[: file.in_place - at])
            if file.read(at, count) != room[:count]:
                return None
            at += count
    finally:
        buffers.give(room)
    return at - began

"""The head of an answer, found in what has come of it so far, without I/O."""

from __future__ import annotations

from typing import Protocol

from stager.transfer.wire import Head, MalformedError, find_head_end, parse_head

HEAD_BUFFER_BYTES = 16_384
"""First read of an answer: the head, and with it the whole body of a small file."""


class HeadTooLargeError(Exception):
    """The head of an answer is longer than it may be."""


class Incoming(Protocol):
    """What has come of an answer."""

    buffer: bytearray
    filled: int
    """Bytes of the answer in `buffer`."""
    left: int
    """Bytes that the head may have, with the interim ones before it that are still to come."""


def find_head(of: Incoming) -> tuple[Head, memoryview] | None:
    """The head, and what came beyond it; None while it is not complete: then there is room for more in `buffer`.

    Raises:
        HeadTooLargeError: it is longer than it may be.
        MalformedError: it is no head.
    """
    while True:
        buffer, filled = of.buffer, of.filled
        end = find_head_end(buffer, filled)
        if (end if end >= 0 else filled) > of.left:
            raise HeadTooLargeError
        if end < 0:
            if filled == len(buffer):
                of.buffer = buffer + bytearray(filled)
            return None
        head = parse_head(buffer[:end])
        if head.status >= 200:  # noqa: PLR2004 - HTTP's own numbers
            return head, memoryview(buffer)[end:filled]
        if head.status == 101:  # noqa: PLR2004
            raise MalformedError("a change of protocol that was not asked for")
        rest = buffer[end:filled]  # that was an interim answer: the real one follows
        buffer[: len(rest)] = rest
        of.filled = len(rest)
        of.left -= end
        if not rest:
            return None

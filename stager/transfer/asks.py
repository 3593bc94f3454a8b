"""What a try asks of its driver: the only two things for which it has to wait for an origin.

A try is a generator: it yields one of these, is sent what came of it (or thrown what went wrong), and
returns the result. What it does between two of them - deciding, hashing, writing, publishing - may take
as long as a disk takes, and is to run where that harms nobody.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from stager.model.fetches import FetchResult
from stager.transfer.decisions import Request
from stager.transfer.transport import Answer, Pulse


class Open(NamedTuple):
    """Send `request` and read the head of the answer; an `Answer` is to be sent back.

    `pulse` says whether to give up: it is told of the seconds that the origin was silent.
    """

    request: Request
    pulse: Pulse


class Fill(NamedTuple):
    """Read raw bytes of the body into `room`; a `Filled` is to be sent back.

    It is time for that when `room` is full, when the body ends, when the bytes that are there should not
    wait any longer, and when nothing comes: the try then looks at the time and whether it was cancelled.
    """

    answer: Answer
    room: memoryview


class Filled(NamedTuple):
    """So many bytes, in so many seconds."""

    received: int
    seconds: float


Steps = Generator[Open | Fill, Any, FetchResult]
"""A try, as its driver sees it."""

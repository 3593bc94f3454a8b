"""What a try asks of its driver: the two things for which it has to wait for an origin, and company.

A try is a generator: it yields one of these, is sent what came of it (or thrown what went wrong), and
returns the result. What it does between two of them - deciding, hashing, writing, publishing - may take
as long as a disk takes, and is to run where that harms nobody.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from stager.model.fetches import FetchResult
from stager.model.urls import Url
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


Side = Generator[Open | Fill, Any, None]
"""What is done beside a try. It raises nothing: what it has to say it tells the try."""


class Beside(NamedTuple):
    """Do `steps` beside this try, on a connection of its own, if the origin of `url` may have one more now.

    Whether they were begun is to be sent back; if not, they are closed.
    """

    url: Url
    steps: Side


class Rest(NamedTuple):
    """Wait at most so many seconds for all that is done beside this try; whether it has ended is to be sent back.

    With `stop` it has been told to end, and is to be woken up where it waits.
    """

    seconds: float
    stop: bool


Ask = Open | Fill | Beside | Rest

Steps = Generator[Ask, Any, FetchResult]
"""A try, as its driver sees it."""

"""What the plan of a fetch says: what to ask the origin, and what to do with its answer."""

from __future__ import annotations

from typing import NamedTuple

from stager.model.entries import Entry
from stager.model.urls import Url


class Request(NamedTuple):
    """A GET to send."""

    url: Url
    headers: dict[str, str]


class Again(NamedTuple):
    """Throw this answer away and ask the next request."""

    reason: str


class Receive(NamedTuple):
    """Take the body.

    Attributes:
        offset: where its first byte belongs; what the partial has beyond is dropped.
        length: bytes that may come, None where that is not known; more are thrown away.
        total: bytes of the whole file, or None.
    """

    offset: int
    length: int | None
    total: int | None


class Unchanged(NamedTuple):
    """The cached copy is still what the origin has; `entry` is its new entry."""

    entry: Entry


class Finish(NamedTuple):
    """All `size` bytes are in place."""

    size: int

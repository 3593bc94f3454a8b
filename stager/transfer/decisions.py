"""What the plan of a fetch says: what to ask the origin, and what to do with its answer."""

from __future__ import annotations

from dataclasses import dataclass

from stager.model.entries import Entry
from stager.model.urls import Url


@dataclass(frozen=True, slots=True)
class Request:
    """A GET to send."""

    url: Url
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Again:
    """Throw this answer away and ask the next request."""

    reason: str


@dataclass(frozen=True, slots=True)
class Receive:
    """Take the body.

    Attributes:
        offset: where its first byte belongs; what the partial has beyond is dropped.
        length: bytes that may come, None where that is not known; more are thrown away.
        total: bytes of the whole file, or None.
    """

    offset: int
    length: int | None
    total: int | None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The cached copy is still what the origin has; `entry` is its new entry."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Finish:
    """All `size` bytes are in place."""

    size: int

"""A fetch: attempts, with retries, for one key. What is asked, what is ordered, what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from stager.errors import IllegalTransitionError, InputError, StagerError
from stager.model.keys import parse_sha256
from stager.model.urls import origin_of, parse_url


class FetchState(StrEnum):
    """Where a fetch is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    LOST = "lost"
    FAILED = "failed"
    CANCELLED = "cancelled"


FETCH_TRANSITIONS: dict[FetchState, frozenset[FetchState]] = {
    FetchState.QUEUED: frozenset({FetchState.RUNNING, FetchState.CANCELLED}),
    FetchState.RUNNING: frozenset(
        {FetchState.READY, FetchState.FAILED, FetchState.QUEUED, FetchState.CANCELLED}
    ),
    FetchState.READY: frozenset({FetchState.LOST}),
    FetchState.LOST: frozenset({FetchState.QUEUED}),
    FetchState.FAILED: frozenset(),
    FetchState.CANCELLED: frozenset(),
}
"""The only steps there are; a retry is ``running → queued`` with the next generation."""


def check_fetch_transition(fetch_id: str, old: FetchState, new: FetchState) -> None:
    """Raise `IllegalTransitionError` unless the table has the step."""
    if new not in FETCH_TRANSITIONS[old]:
        raise IllegalTransitionError(
            f"fetch {fetch_id} can't go from {old} to {new}", fetch=fetch_id, old=old, new=new
        )


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What a caller wants: the bytes behind a URL.

    Attributes:
        url: where they are; brought into canonical form.
        sha256: digest they must have (``HEX`` or ``sha256:HEX``), or None.
        refresh: ask the origin even if the cached copy is still fresh.
        priority: higher goes first.
        owner: for whom; the entry remembers it, and whose quota the file counts in. No part of what is asked.

    Raises:
        InputError: malformed URL or digest.
    """

    url: str
    sha256: str | None = None
    refresh: bool = False
    priority: int = 0
    owner: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.url, str):
            raise InputError(f"{self.url!r} is not a URL", cause="text is needed")
        object.__setattr__(self, "url", parse_url(self.url).text)
        if self.sha256 is not None:
            object.__setattr__(self, "sha256", parse_sha256(self.sha256))

    @property
    def key(self) -> str:
        """The cache key."""
        return self.url

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return origin_of(self.url)


@dataclass(frozen=True, slots=True)
class FetchOrder:
    """One try of one fetch, as handed to whatever runs it: ids, no secret.

    Attributes:
        fetch: id of the fetch.
        generation: number of this try, from 1; a signal of another generation is stale and ignored.
        request: what to bring.
    """

    fetch: str
    generation: int
    request: FetchRequest


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch delivered.

    Attributes:
        url: canonical URL asked for.
        sha256: digest of the bytes = id of the object.
        size: bytes of the file.
        location: the path of the object as text; see `path`.
        cached: no byte of the body was transferred by this try.
        seconds: from start to published.
        received: bytes of body transferred by this try.
        resumed_from: offset at which this try went on; 0 when it began at the beginning.
        unproven: see `Entry.unproven`.
        fresh_until: see `Entry.fresh_until`.
    """

    url: str
    sha256: str
    size: int
    location: str | Path
    cached: bool
    seconds: float = 0.0
    received: int = 0
    resumed_from: int = 0
    unproven: bool = False
    fresh_until: float | None = None

    @property
    def path(self) -> Path:
        """Where the object is; it never changes and is never written again."""
        return Path(self.location)  # made when it is asked for: that costs more than the rest of a result


@dataclass(frozen=True, slots=True)
class Started:
    """Signal: a try of a fetch has begun."""

    fetch: str
    generation: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Signal, lossy: bytes in place so far, and of how many (None: not known)."""

    fetch: str
    generation: int
    received: int
    total: int | None
    resumed_from: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """Signal: the object is published and the entry points to it."""

    fetch: str
    generation: int
    result: FetchResult


@dataclass(frozen=True, slots=True)
class Failed:
    """Signal: this try failed; `error.transient` says whether another may help.

    `progressed` is True when the try brought new bytes that the next one can build on.
    """

    fetch: str
    generation: int
    error: StagerError
    progressed: bool = field(default=False)


Signal = Started | Progress | Ready | Failed
"""What the place where fetches run tells the mapper."""

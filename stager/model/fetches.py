"""A fetch: attempts, with retries, for one key. What is asked, what is ordered, what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from stager.errors import IllegalTransitionError, InputError, StagerError
from stager.model.digests import Digest, parse_digest
from stager.model.keys import parse_sha256
from stager.model.urls import origin_of, parse_url

MAX_MIRRORS = 100
"""Other URLs of one file; a list of all mirrors of a large distribution is shorter."""


class FetchState(StrEnum):
    """Where a fetch is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    LOCKED = "locked"
    READY = "ready"
    LOST = "lost"
    FAILED = "failed"
    CANCELLED = "cancelled"


FETCH_TRANSITIONS: dict[FetchState, frozenset[FetchState]] = {
    FetchState.QUEUED: frozenset({FetchState.RUNNING, FetchState.CANCELLED}),
    FetchState.RUNNING: frozenset(
        {FetchState.READY, FetchState.FAILED, FetchState.QUEUED, FetchState.LOCKED, FetchState.CANCELLED}
    ),
    FetchState.LOCKED: frozenset({FetchState.QUEUED, FetchState.CANCELLED}),
    FetchState.READY: frozenset({FetchState.LOST}),
    FetchState.LOST: frozenset({FetchState.QUEUED}),
    FetchState.FAILED: frozenset(),
    FetchState.CANCELLED: frozenset(),
}
"""The only steps there are; a retry is ``running → queued`` with the next generation.

What is locked waits until somebody gives the credential that its error names.
"""

LARGEST_BYTES = (1 << 63) - 1
"""No file system has larger files, and no database a larger number."""


def check_fetch_transition(fetch_id: str, old: FetchState, new: FetchState) -> None:
    """Raise `IllegalTransitionError` unless the table has the step."""
    if new not in FETCH_TRANSITIONS[old]:
        raise IllegalTransitionError(
            f"fetch {fetch_id} can't go from {old} to {new}", fetch=fetch_id, old=old, new=new
        )


def canonical_mirrors(url: str, mirrors: Iterable[str]) -> tuple[str, ...]:
    """The mirrors in canonical form, each once and without `url`, which is canonical.

    Raises:
        InputError: one is no URL, or there are too many.
    """
    found = dict.fromkeys(parse_url(mirror).text for mirror in mirrors)
    found.pop(url, None)
    if len(found) > MAX_MIRRORS:
        raise InputError(
            f"{len(found)} mirrors of {parse_url(url).redacted}",
            cause=f"{MAX_MIRRORS} are allowed",
            remedy="leave some out",
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What a caller wants: the bytes behind a URL.

    Attributes:
        url: where they are; brought into canonical form.
        sha256: digest they must have (``HEX``, ``sha256:HEX`` or ``sha256-BASE64``), or None.
        refresh: ask the origin even if the cached copy is still fresh.
        priority: higher goes first.
        owner: for whom, and with whose credentials; the entry remembers it, and whose quota the file counts in.
            No part of what is asked.
        digest: the same as `sha256` in any form that `parse_digest` reads; kept, as ``ALGORITHM:HEX``, if it is
            of another algorithm, else moved to `sha256`.
        mirrors: other URLs of the same file, tried after `url`; the file is known by `url` alone.
        size: bytes that it must have, or None.
        request_id: of the call to the server for which it is; for the log, and no part of what is asked.

    Raises:
        InputError: malformed URL or digest, a negative size, or two digests.
    """

    url: str
    sha256: str | None = None
    refresh: bool = False
    priority: int = 0
    owner: str = field(default="", compare=False)
    digest: str | None = None
    mirrors: tuple[str, ...] = ()
    size: int | None = None
    request_id: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.url, str):
            raise InputError(f"{self.url!r} is not a URL", cause="text is needed")
        object.__setattr__(self, "url", parse_url(self.url).text)
        if self.sha256 is not None:
            object.__setattr__(self, "sha256", parse_sha256(self.sha256))
        if self.digest is not None:
            self._take_digest(parse_digest(self.digest))
        if self.mirrors:
            object.__setattr__(self, "mirrors", canonical_mirrors(self.url, self.mirrors))
        if self.size is not None and (isinstance(self.size, bool) or not 0 <= self.size <= LARGEST_BYTES):
            raise InputError(f"{self.size!r} is no size of a file", remedy="give a number of bytes")

    def _take_digest(self, digest: Digest) -> None:
        if digest.algorithm != "sha256":
            object.__setattr__(self, "digest", str(digest))
        elif self.sha256 in {None, digest.value}:
            object.__setattr__(self, "sha256", digest.value)
            object.__setattr__(self, "digest", None)
        if self.sha256 is not None and self.digest is not None:
            raise InputError(
                f"two digests for {parse_url(self.url).redacted}", cause="one is enough", remedy="give one"
            )

    @property
    def expected(self) -> str | None:
        """The digest that was asked for, in its one form (see `stager.model.digests`); None: none was."""
        return self.sha256 if self.digest is None else self.digest

    @property
    def key(self) -> str:
        """The cache key."""
        return self.url

    def names(self, source: str | None) -> bool:
        """Whether the file is said to be there; `source` as of `Entry.url`, None: nobody fetched it.

        What only somebody else called a mirror of it may have any bytes.
        """
        if source in {None, self.url}:
            return True
        return any(parse_url(url).redacted == source for url in (self.url, *self.mirrors))

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
        tried: URLs at which it was not to be had, each with ``url`` and ``error`` (`StagerError.to_dict`).
        source: the URL that the bytes came from, without secrets; empty where that is not known.
        restricted: see `Entry.restricted`; then the origin gave it, or confirmed it, in this try, for this owner.
        credentials: ids of the credentials that were shown for it.
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
    tried: tuple[dict[str, Any], ...] = ()
    source: str = ""
    restricted: bool = False
    credentials: tuple[str, ...] = ()

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

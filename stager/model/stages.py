"""A stage request: many files at once, to be there and to stay for a while, and for no job in particular."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stager.errors import IllegalTransitionError, StagerError
from stager.model.entries import Entry
from stager.model.fetches import FetchRequest


class StagedState(StrEnum):
    """Where a file of a stage request is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    """Shown while its fetch runs; never recorded, since the fetch knows."""
    READY = "ready"
    """There, and pinned."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"
    """It was there; its pin is taken away."""


STAGED_TRANSITIONS: dict[StagedState, frozenset[StagedState]] = {
    StagedState.QUEUED: frozenset({StagedState.READY, StagedState.FAILED, StagedState.CANCELLED}),
    StagedState.READY: frozenset({StagedState.RELEASED}),
    StagedState.FAILED: frozenset(),
    StagedState.CANCELLED: frozenset(),
    StagedState.RELEASED: frozenset(),
}
"""The only steps there are."""


@dataclass(frozen=True, slots=True)
class StageItem:
    """One file to stage; see `FetchRequest`."""

    url: str
    sha256: str | None = None
    digest: str | None = None
    mirrors: tuple[str, ...] = ()
    size: int | None = None

    @property
    def request(self) -> FetchRequest:
        """The fetch that brings it, checked.

        Raises:
            InputError: a malformed URL, digest or size.
        """
        return FetchRequest(self.url, self.sha256, digest=self.digest, mirrors=self.mirrors, size=self.size)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage request without its files.

    Attributes:
        id: sorts by time.
        owner: whom it counts for when several want transfers; may be empty.
        priority: higher goes first.
        keep_seconds: how long each file stays from the moment when it is there; None: until it is released.
        created_at: seconds since 1970 UTC.
        request_id: of the call that made it; known until the next start.
    """

    id: str
    owner: str = ""
    priority: int = 0
    keep_seconds: float | None = None
    created_at: float = 0.0
    request_id: str = field(default="", compare=False)


@dataclass(slots=True, eq=False)
class StagedFile:
    """A file of a stage request as the mapper knows it; all but `refusals` and `entry` is kept."""

    stage: Stage
    number: int
    url: str
    """Canonical."""
    expected: str | None = None
    """Digest that it must have, in its one form (`stager.model.digests`)."""
    state: StagedState = StagedState.QUEUED
    fetch: str | None = None
    """What brings it; None before its turn to ask for one."""
    sha256: str = ""
    size: int = 0
    error: StagerError | None = None
    ended_at: float | None = None
    pinned: bool = False
    """A pin was ordered and is not known to be gone."""
    pinned_until: float | None = None
    refusals: int = 0
    """How often it was gone when it was to be pinned."""
    entry: Entry | None = field(default=None, repr=False)
    """What the cache held of it when it was asked for."""
    mirrors: tuple[str, ...] = ()
    """Other URLs of the same file."""
    expected_size: int | None = None
    """Bytes that it must have."""
    saved: StagedState = StagedState.QUEUED
    """The state that the database has of it."""

    @property
    def id(self) -> str:
        """What it is called among those who want a fetch; no job has such an id."""
        return f"{self.stage.id}/{self.number}"

    @property
    def request(self) -> FetchRequest:
        """The fetch that brings it."""
        stage = self.stage
        return FetchRequest(
            self.url,
            priority=stage.priority,
            owner=stage.owner,
            digest=self.expected,
            mirrors=self.mirrors,
            size=self.expected_size,
            request_id=stage.request_id,
        )

    def move(self, state: StagedState) -> None:
        """Take a step that the table has.

        Raises:
            IllegalTransitionError: it does not.
        """
        if state not in STAGED_TRANSITIONS[self.state]:
            raise IllegalTransitionError(
                f"staged file {self.id} can't go from {self.state} to {state}", old=self.state, new=state
            )
        self.state = state


@dataclass(frozen=True, slots=True)
class StageView:
    """A stage request as people see it. Times are seconds since 1970 UTC, sizes bytes.

    Attributes:
        id: its id.
        owner: whom it counts for.
        priority: higher goes first.
        keep_seconds: how long each file stays; None: until it is released.
        created_at: when it was made.
        files: number of files.
        states: number of files in each state.
        bytes: size of what is ready.
    """

    id: str
    owner: str
    priority: int
    keep_seconds: float | None
    created_at: float
    files: int
    states: dict[str, int]
    bytes: int

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be waited for any more."""
        return not (self.states.get(StagedState.QUEUED, 0) or self.states.get(StagedState.RUNNING, 0))


@dataclass(frozen=True, slots=True)
class StagedView:
    """A file of a stage request as people see it.

    Attributes:
        url: without secrets.
        state: see `StagedState`.
        received: bytes in place.
        total: of so many (None: not known).
        sha256: digest, once it is known.
        pinned_until: until when it stays, once it is ready; None: until it is released.
        ended_at: when it was ready, or over in another way.
        error: why it failed.
    """

    url: str
    state: StagedState
    received: int
    total: int | None
    sha256: str | None
    pinned_until: float | None
    ended_at: float | None
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class StageDetail(StageView):
    """A stage request with its files, in the order in which they were given."""

    all_files: list[StagedView] = field(default_factory=list)


class Locality(StrEnum):
    """Where a file is, in the words of the WLCG Tape REST API: the cache is the disk, the origin the tape."""

    DISK = "DISK"
    """In the cache, and of no origin."""
    TAPE = "TAPE"
    """Not in the cache; whether its origin has it only staging can tell."""
    DISK_AND_TAPE = "DISK_AND_TAPE"
    """In the cache, from its origin."""


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """Where one file is; or why that can't be said.

    Attributes:
        path: as it was asked for.
        locality: where it is.
        error: why that can't be said.
    """

    path: str
    locality: Locality | None = None
    error: str | None = None

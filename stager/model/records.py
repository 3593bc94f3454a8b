"""The rows of the database, as the mapper holds them while they matter."""

from __future__ import annotations

from dataclasses import dataclass, field

from stager.errors import StagerError
from stager.model.answered import Answered
from stager.model.chronicle import Event
from stager.model.events import JobResult
from stager.model.fetches import FetchRequest, FetchState
from stager.model.grants import Access, Grant
from stager.model.idset import IdSet
from stager.model.jobs import JobState
from stager.model.stages import StagedFile

NAME = "name:"
"""Prefix of a name in `JobRecord.unmet`, where the others are ids of fetches."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a stream of signals.

    Attributes:
        stream: which stream; a new one when Redis came back empty.
        entry: id of the last entry that was taken in.
    """

    stream: str
    entry: str


@dataclass(slots=True, eq=False)
class FetchRecord:
    """A fetch as the mapper knows it; all but `jobs`, `saved` and what is counted is kept in the database."""

    id: str
    url: str
    """Canonical."""
    expected: str | None = None
    """Digest that was asked for, in its one form (`stager.model.digests`)."""
    refresh: bool = False
    state: FetchState = FetchState.QUEUED
    generation: int = 1
    tries: int = 0
    """Tries in a row without progress."""
    priority: int = 0
    owner: str = ""
    """Whose share it counts in, and with whose credentials it asks: the owner of the jobs that want it."""
    created_at: float = 0.0
    first_try_at: float | None = None
    not_before: float = 0.0
    ended_at: float | None = None
    sha256: str = ""
    size: int = 0
    fresh_until: float | None = None
    cached: bool = False
    received: int = 0
    """Bytes of body transferred over all tries."""
    resumed_from: int = 0
    """Offset at which the last try that resumed went on."""
    error: StagerError | None = None
    restricted: bool = False
    """The object needs a grant, of this owner."""
    jobs: IdSet = field(default_factory=IdSet)
    """Jobs, not yet running, that need it; all of the same owner."""
    saved: FetchState | None = None
    """The state that the database has of it; None: it has no row of it."""
    """The database has a row of it."""
    mirrors: tuple[str, ...] = ()
    """Other URLs of the same file."""
    expected_size: int | None = None
    """Bytes that it must have."""
    request_id: str = ""
    """Of the first call that wanted it; not kept: a start has it from the jobs."""
    counted: FetchState | None = None
    """The state in which figures count it; see `stager.service.counted_store`."""
    counted_bytes: int = 0
    """So much of `received` is in figures."""

    @property
    def known_size(self) -> int:
        """Bytes, of what is here or was promised; 0 while nobody knows."""
        return self.size if self.state is FetchState.READY else self.expected_size or 0

    @property
    def request(self) -> FetchRequest:
        """What is asked, made anew each time: kept for a million that wait, it would take 80 MB."""
        return FetchRequest(
            self.url,
            None,
            self.refresh,
            self.priority,
            self.owner,
            self.expected,
            self.mirrors,
            self.expected_size,
            self.request_id,
        )


@dataclass(slots=True, eq=False)
class JobRecord:
    """A job as the mapper knows it: what it waits for, not what it runs; all but `unmet` and what follows is kept."""

    id: str
    fetches: tuple[str, ...]
    """Fetch of each input, in the order of the job's inputs."""
    after: tuple[str, ...]
    priority: int = 0
    owner: str = ""
    state: JobState = JobState.WAITING
    epoch: int = 0
    """Number of hand-overs so far."""
    handed: bool = False
    """A hand-over is not known to be over: a process may exist."""
    submitted_at: float = 0.0
    ready_at: float | None = None
    dispatched_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    error: StagerError | None = None
    results: tuple[JobResult, ...] = ()
    unmet: IdSet = field(default_factory=IdSet)
    """What it waits for: ids of fetches, and names with `NAME` before them."""
    known_bytes: int = 0
    """Sizes, added up, of those of its inputs whose size is known."""
    proving_since: float | None = None
    """When its owner began to prove again that he may read its inputs."""
    saved: JobState | None = None
    """As of a fetch."""
    request_id: str = ""
    """Of the call that submitted it; kept with what it runs."""
    counted: JobState | None = None
    """As of a fetch."""


@dataclass(slots=True, eq=False)
class NameRecord:
    """A precondition by name."""

    name: str
    met_at: float | None = None
    jobs: IdSet = field(default_factory=IdSet)
    saved: bool = False


@dataclass(slots=True)
class Besides:
    """What is written with a batch and shows in no record of it."""

    told: list[Event] = field(default_factory=list)
    """What happened."""
    answered: list[Answered] = field(default_factory=list)
    """Calls that will be answered when the batch is durable."""

    def __bool__(self) -> bool:
        return bool(self.told or self.answered)

    def take(self) -> Besides:
        """All of it, for the next batch."""
        taken = Besides(self.told, self.answered)
        self.told, self.answered = [], []
        return taken


@dataclass(slots=True)
class Changes:
    """What has to be written, in one transaction."""

    jobs: list[JobRecord] = field(default_factory=list)
    fetches: list[FetchRecord] = field(default_factory=list)
    names: list[NameRecord] = field(default_factory=list)
    position: Position | None = None
    """Up to where the stream of signals is in these changes."""
    staged: list[StagedFile] = field(default_factory=list)
    grants: dict[Access, Grant | None] = field(default_factory=dict)
    """None: it is over."""
    besides: Besides = field(default_factory=Besides)
    at: float = 0.0
    """When, seconds since 1970 UTC."""
    events: list[Event] = field(default_factory=list)
    """What the changes tell, once they are written."""

    def __bool__(self) -> bool:
        records = self.jobs or self.fetches or self.names or self.staged
        return bool(records or self.grants or self.besides or self.position)

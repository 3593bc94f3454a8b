"""What people see of jobs and fetches: no secret, nothing to look up elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stager.model.fetches import FetchState
from stager.model.jobs import JobState


@dataclass(frozen=True, slots=True)
class InputView:
    """One input of a job and how far it is.

    `received` counts bytes in place of `total` (None: not known); `transferred` those that came over
    the network in all tries; `resumed_from` is the offset at which the last resumed try went on;
    `ended_at` (seconds since 1970 UTC) is when it was there, or was given up.
    """

    name: str
    url: str
    fetch: str
    state: FetchState
    sha256: str | None
    size: int | None
    received: int
    total: int | None
    transferred: int
    resumed_from: int
    cached: bool
    tries: int
    next_try_at: float | None
    error: dict[str, Any] | None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class PreconditionView:
    """A precondition by name; `met_at` is None while it is not met."""

    name: str
    met_at: float | None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker process: on which node, from which queues it takes tasks, how many at once, how many it is at.

    `started_at` is in seconds since 1970 UTC.
    """

    name: str
    node: str
    queues: list[str]
    pid: int
    threads: int
    busy: int
    version: str
    started_at: float


@dataclass(frozen=True, slots=True)
class WorkersView:
    """All workers by name, and the address of the dashboard (empty: there is none)."""

    workers: list[WorkerView]
    flower_url: str


@dataclass(frozen=True, slots=True)
class ResultView:
    """A file that a job left. Times are seconds since 1970 UTC.

    Attributes:
        name: path below the results directory.
        sha256: digest of the bytes.
        size: how many.
        kept: whether it is still there; None: nobody looked.
        promised_until: until when it stays, whatever needs room; None: no promise.
        expires_at: when it goes for its age; None: never.
        gone_at: when it went; None: it did not, or nobody knows.
        gone_because: why it went.
    """

    name: str
    sha256: str
    size: int
    kept: bool | None = None
    promised_until: float | None = None
    expires_at: float | None = None
    gone_at: float | None = None
    gone_because: str = ""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job. Times are seconds since 1970 UTC, None for what has not happened."""

    id: str
    name: str
    state: JobState
    priority: int
    submitted_at: float
    ready_at: float | None
    dispatched_at: float | None
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    error: dict[str, Any] | None
    command: list[str]
    waits_for: list[str] = field(default_factory=list)
    """URLs and names that are not met yet."""
    wants_credentials: list[str] = field(default_factory=list)
    """Hosts for which a credential is to be given: it goes on by itself when it is."""
    owner: str = ""
    """Whom it counts for, and whose credentials its inputs are fetched with; empty: nobody in particular."""
    request_id: str = ""
    """Of the call that submitted it: in the log of the server and of its workers."""


@dataclass(frozen=True, slots=True)
class JobDetail(JobView):
    """A job with all that belongs to it."""

    environment: dict[str, str] = field(default_factory=dict)
    inputs: list[InputView] = field(default_factory=list)
    after: list[PreconditionView] = field(default_factory=list)
    results: list[ResultView] = field(default_factory=list)
    directory: str = ""


@dataclass(frozen=True, slots=True)
class OriginView:
    """An origin and how much it is given.

    `limit` and `in_flight` count seats (connections' worth of work), `maximum` is what is configured;
    `waiting` counts fetches; the recent tries are those of which the success rate is taken.
    """

    origin: str
    limit: int
    maximum: int
    in_flight: int
    waiting: int
    paused_until: float | None
    recent_successes: int
    recent_failures: int
    last_error: str
    """Code of the last error that told against it; empty: none did."""

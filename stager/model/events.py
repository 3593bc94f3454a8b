"""What the dispatcher tells the mapper about jobs (what fetches tell is in `stager.model.fetches`)."""

from __future__ import annotations

from dataclasses import dataclass

from stager.errors import StagerError


@dataclass(frozen=True, slots=True)
class DispatchInput:
    """One input as the dispatcher needs it: under which name, which bytes, brought by which fetch.

    `restricted`: the object needs a grant; the job's owner had one when the job was handed over.
    """

    name: str
    sha256: str
    size: int
    fetch: str
    restricted: bool = False


@dataclass(frozen=True, slots=True)
class DispatchOrder:
    """A job handed over. ``job:epoch`` identifies the hand-over: a second one of the same id is a no-op."""

    job: str
    epoch: int
    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    inputs: tuple[DispatchInput, ...]
    results: tuple[str, ...]
    owner: str = ""
    request_id: str = ""

    @property
    def restricted(self) -> bool:
        """Whether what the job leaves may have in it what needs a grant."""
        return any(item.restricted for item in self.inputs)


@dataclass(frozen=True, slots=True)
class JobResult:
    """One file that a job left, kept as an object of the cache."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The job's command runs, and has for so many seconds."""

    job: str
    epoch: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class JobRefused:
    """The hand-over found inputs gone or damaged; `lost` names their fetches. The job was not started."""

    job: str
    epoch: int
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job is over.

    Attributes:
        job: its id.
        epoch: which hand-over.
        exit_code: status of the command (128 + n when signal n ended it), None if it never ran.
        error: why it counts as failed, None when it succeeded.
        results: what was kept.
        seconds: how long the command ran.
    """

    job: str
    epoch: int
    exit_code: int | None
    error: StagerError | None = None
    results: tuple[JobResult, ...] = ()
    seconds: float = 0.0


JobSignal = JobStarted | JobRefused | JobEnded

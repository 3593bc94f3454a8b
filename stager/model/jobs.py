"""A job: what the user wants run, what it waits for, what it leaves."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypedDict, TypeVar

from stager.errors import IllegalTransitionError, InputError
from stager.model.fetches import FetchRequest
from stager.model.preconditions import check_precondition_name
from stager.model.urls import parse_url


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"
    READY = "ready"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self in {JobState.DONE, JobState.FAILED, JobState.CANCELLED}


class JobFilters(TypedDict, total=False):
    """Which jobs: in these states, of that owner, called that, submitted since then (seconds since 1970 UTC)."""

    states: Collection[JobState]
    owner: str | None
    name: str | None
    since: float | None


_W, _R, _P, _X = JobState.WAITING, JobState.READY, JobState.DISPATCHED, JobState.RUNNING
_DONE, _FAILED, _CANCELLED = JobState.DONE, JobState.FAILED, JobState.CANCELLED
JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    _W: frozenset({_R, _FAILED, _CANCELLED}),
    _R: frozenset({_P, _W, _CANCELLED}),  # back to waiting: an input was lost before the hand-over
    _P: frozenset({_X, _W, _FAILED, _CANCELLED}),  # back to waiting: an input did not open at the hand-over
    _X: frozenset({_DONE, _FAILED, _CANCELLED}),
    _DONE: frozenset(),
    _FAILED: frozenset(),
    _CANCELLED: frozenset(),
}
"""The only steps there are."""


def check_job_transition(job_id: str, old: JobState, new: JobState) -> None:
    """Raise `IllegalTransitionError` unless the table has the step."""
    if new not in JOB_TRANSITIONS[old]:
        raise IllegalTransitionError(
            f"job {job_id} can't go from {old} to {new}", job=job_id, old=old, new=new
        )


MAX_NAME_BYTES = 255
"""Longest file name that common file systems hold."""
MAX_PRIORITY = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a terminal obeys them
_SURROGATE = re.compile(
    r"[\ud800-\udfff]"
)  # bytes that were not UTF-8; neither JSON nor a database holds them
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWNER = re.compile(r"[A-Za-z0-9._@+-]{0,64}")


def check_file_name(name: str, what: str) -> str:
    """`name` itself, if it can be the name of one file in one directory.

    Raises:
        InputError: empty, ``.``, ``..``, with a slash or a control character, or too long.
    """
    cause = ""
    if name in {"", ".", ".."}:
        cause = "it is no file name"
    elif "/" in name:
        cause = "it contains a slash"
    elif _CONTROL.search(name):
        cause = "it contains a control character"
    elif len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        cause = f"it is longer than {MAX_NAME_BYTES} bytes"
    elif _SURROGATE.search(name):
        cause = "it is not valid UTF-8"
    if cause:
        raise InputError(f"{what} can't be named {name!r}", cause=cause, remedy="give a plain file name")
    return name


def _check_text(text: str, what: str) -> None:
    if "\0" in text:
        raise InputError(f"{what} contains a NUL character", remedy="remove it")
    if _SURROGATE.search(text):
        raise InputError(f"{what} is not valid UTF-8", cause=repr(text), remedy="write it in UTF-8")


def check_priority(priority: int) -> int:
    """`priority` itself, if it is one.

    Raises:
        InputError: it is too high or too low.
    """
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise InputError(
            f"priority {priority} is out of range",
            cause=f"{-MAX_PRIORITY} to {MAX_PRIORITY}",
            remedy="choose one inside",
        )
    return priority


def check_owner(owner: str) -> str:
    """`owner` itself, if it can be the name of a user; it may be empty.

    Raises:
        InputError: it can't.
    """
    if not _OWNER.fullmatch(owner):
        raise InputError(
            f"{owner!r} can't be an owner",
            cause="letters, digits and ._@+- are allowed, 64 of them at most",
            remedy="give a user's name",
        )
    return owner


def check_result_path(path: str) -> str:
    """`path` itself, if it is a relative path inside the results directory (``*`` and ``?`` are patterns).

    Raises:
        InputError: absolute, empty, or leading out of the directory.
    """
    for part in path.split("/"):
        check_file_name(part, f"part of result {path!r}")
    return path


@dataclass(frozen=True, slots=True)
class JobInput:
    """One file that the job reads.

    Attributes:
        url: where it is; canonical.
        name: under which name the job sees it; by default the last segment of the URL's path.
        sha256, digest, mirrors, size: as of a `FetchRequest`.
    """

    url: str
    name: str = ""
    sha256: str | None = None
    digest: str | None = None
    mirrors: tuple[str, ...] = ()
    size: int | None = None

    def __post_init__(self) -> None:
        url = parse_url(self.url)
        object.__setattr__(self, "url", url.text)
        if not self.name:
            if url.name in {"", ".", ".."} or "/" in url.name:
                raise InputError(
                    f"input {url.redacted!r} needs a name",
                    cause="its URL does not end in one",
                    remedy=f"write {url.redacted}=NAME",
                )
            object.__setattr__(self, "name", url.name)
        check_file_name(self.name, f"input {url.redacted!r}")
        if self.sha256 is not None or self.digest is not None or self.mirrors or self.size is not None:
            checked = self.request()
            for field in ("sha256", "digest", "mirrors"):
                object.__setattr__(self, field, getattr(checked, field))

    def request(self, priority: int = 0, owner: str = "", request_id: str = "") -> FetchRequest:
        """The fetch that brings it."""
        return FetchRequest(
            self.url, self.sha256, False, priority, owner, self.digest, self.mirrors, self.size, request_id
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form without defaults; `from_dict` is the inverse."""
        given = {
            "sha256": self.sha256,
            "digest": self.digest,
            "mirrors": list(self.mirrors),
            "size": self.size,
        }
        data: dict[str, Any] = {"url": self.url, "name": self.name}
        return data | {name: value for name, value in given.items() if value not in (None, [])}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JobInput:
        """The input that `to_dict` wrote; it is not checked again."""
        return _unchecked(
            cls,
            url=data["url"],
            name=data["name"],
            sha256=data.get("sha256"),
            digest=data.get("digest"),
            mirrors=tuple(data.get("mirrors", ())),
            size=data.get("size"),
        )


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as submitted; checked when made.

    Attributes:
        command: program and arguments; no shell.
        inputs: files to stage, each under a name of its own.
        after: names of preconditions that must be met.
        environment: variables for the command, besides a minimal base and ``STAGER_*``; kept sorted.
        results: paths (or patterns) inside the results directory that the job must leave; when
            none are given, whatever it leaves is kept.
        priority: -1000 to 1000; higher goes first.
        name: what people call it; may be empty, need not be unique.
        owner: whom it counts for when several want transfers at once; may be empty.
        request_id: of the call to the server that submitted it.

    Raises:
        InputError: an impossible name, URL, digest or number, or two inputs of one name.
    """

    command: tuple[str, ...]
    inputs: tuple[JobInput, ...] = ()
    after: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    results: tuple[str, ...] = ()
    priority: int = 0
    name: str = ""
    owner: str = ""
    request_id: str = ""

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise InputError("the job has no command", remedy="give a program and its arguments")
        for argument in self.command:
            _check_text(argument, "the job's command")
        names: set[str] = set()
        for item in self.inputs:
            if item.name in names:
                raise InputError(
                    f"two inputs are named {item.name!r}",
                    cause="each needs a name of its own in the job's directory",
                    remedy="give one another name",
                )
            names.add(item.name)
        for name in self.after:
            check_precondition_name(name)
        object.__setattr__(self, "after", tuple(dict.fromkeys(self.after)))
        for variable, value in self.environment:
            if not _VARIABLE.fullmatch(variable) or variable.startswith("STAGER_"):
                cause = (
                    "names starting with STAGER_ are set by the server"
                    if variable.startswith("STAGER_")
                    else "use letters, digits and _"
                )
                raise InputError(
                    f"{variable!r} can't be an environment variable of the job",
                    cause=cause,
                    remedy="choose another name",
                )
            _check_text(value, f"environment variable {variable!r}")
        object.__setattr__(self, "environment", tuple(sorted(dict(self.environment).items())))
        for path in self.results:
            check_result_path(path)
        check_priority(self.priority)
        if _CONTROL.search(self.name) or _SURROGATE.search(self.name) or len(self.name) > MAX_NAME_BYTES:
            raise InputError(
                f"{self.name!r} can't be the name of a job",
                cause="it is too long, contains a control character or is not valid UTF-8",
                remedy="shorten it",
            )
        check_owner(self.owner)

    def to_dict(self) -> dict[str, Any]:
        """JSON form without defaults; `from_dict` is the inverse."""
        data: dict[str, Any] = {"command": list(self.command)}
        if self.inputs:
            data["inputs"] = [item.to_dict() for item in self.inputs]
        for field in ("after", "results"):
            if getattr(self, field):
                data[field] = list(getattr(self, field))
        if self.environment:
            data["environment"] = dict(self.environment)
        if self.priority:
            data["priority"] = self.priority
        if self.name:
            data["name"] = self.name
        if self.owner:
            data["owner"] = self.owner
        if self.request_id:
            data["request_id"] = self.request_id
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JobSpec:
        """The job that `to_dict` wrote. It was checked when it was made and is not checked again."""
        return _unchecked(
            cls,
            command=tuple(data["command"]),
            inputs=tuple(JobInput.from_dict(item) for item in data.get("inputs", ())),
            after=tuple(data.get("after", ())),
            environment=tuple(sorted(data.get("environment", {}).items())),
            results=tuple(data.get("results", ())),
            priority=data.get("priority", 0),
            name=data.get("name", ""),
            owner=data.get("owner", ""),
            request_id=data.get("request_id", ""),
        )


_Checked = TypeVar("_Checked")


def _unchecked(kind: type[_Checked], **fields: object) -> _Checked:
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made

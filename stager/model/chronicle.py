"""The chronicle: what happened, in the order in which it was recorded, each thing with a number of its own.

What becomes an event is said in `stager.model.telling`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from stager.errors import InputError
from stager.model.urls import parse_url

KINDS: Final = {
    "job.submitted": "A job was taken in.",
    "job.ready": "All that it waited for holds.",
    "job.dispatched": "It was handed over, for the `epoch`-th time.",
    "job.running": "Its command runs.",
    "job.waiting": "It was ready or handed over, and waits again: an input is gone, or a precondition holds no more.",
    "job.done": "Its command succeeded.",
    "job.failed": "It failed: `error` says why.",
    "job.cancelled": "It was cancelled.",
    "fetch.ready": "A file that a job or stage request waits for is there.",
    "fetch.failed": "It was given up: `error` says why.",
    "credential.missing": "A fetch waits for a credential: `error` says for which one, and how to give it.",
    "credential.given": "A credential for `host` was given.",
    "credential.removed": "A credential for `host` was removed.",
    "space.waiting": "A fetch waits for room in the cache.",
    "precondition.met": "A precondition is met.",
    "precondition.unmet": "A precondition that was met holds no more.",
    "staged.ready": "A file of a stage request is there and stays.",
    "staged.failed": "It will not be: `error` says why.",
    "staged.cancelled": "It was given up by its user.",
    "staged.released": "It was let go by its user.",
    "stage.done": "No file of a stage request is to be waited for any more.",
    "cache.evicted": "So many `files`, of so many `bytes`, were evicted or purged.",
}
"""What is told, and what it means."""


@dataclass(slots=True)
class Event:
    """Something that happened.

    Attributes:
        kind: one of `KINDS`.
        user: whose job, fetch or request it is about; empty: nobody's in particular.
        job: its id.
        stage: id of the stage request.
        fetch: id of the fetch; `JobRecord.fetches` names those of a job's inputs.
        details: more of it, by name.
        id: its number; each has the one after that of the event before.
        at: when it was recorded, seconds since 1970 UTC.
    """

    kind: str
    user: str = ""
    job: str = ""
    stage: str = ""
    fetch: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    id: int = 0
    at: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The event as clients get it; what it is not about is left out."""
        shown: dict[str, Any] = {"id": self.id, "kind": self.kind, "at": self.at}
        for name in ("user", "job", "stage", "fetch", "details"):
            if value := getattr(self, name):
                shown[name] = value
        return shown

    @property
    def redacted(self) -> Event:
        """The event without the secrets of its URL: it is kept as it was asked for."""
        if "url" not in self.details:
            return self
        return replace(self, details=self.details | {"url": parse_url(self.details["url"]).redacted})


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events somebody wants; what is empty does not restrict them.

    Attributes:
        jobs: about these jobs,
        fetches: or these fetches (those of their inputs),
        names: or these preconditions (those that they wait for).
        stages: about these stage requests.
        users: of these users.
        kinds: of these kinds; ``job`` is all that begin with ``job.``.
        only: who asks, if he may know of what is his alone; preconditions are everybody's.
    """

    jobs: frozenset[str] = frozenset()
    fetches: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    stages: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    only: str | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self == _ALL

    def takes(self, event: Event) -> bool:
        """Whether the event is among them."""
        area = event.kind.partition(".")[0]
        if self.kinds and event.kind not in self.kinds and area not in self.kinds:
            return False
        if self.users and event.user not in self.users:
            return False
        if self.only is not None and event.user != self.only and area != "precondition":
            return False
        if not (self.jobs or self.stages):
            return True
        return (
            event.job in self.jobs
            or event.stage in self.stages
            or event.fetch in self.fetches
            or (area == "precondition" and event.details["name"] in self.names)
        )


_ALL = Choice()


def check_kind(word: str) -> str:
    """A kind of events, or what several kinds begin with.

    Raises:
        InputError: there is none of that name.
    """
    if word not in KINDS and word not in {kind.partition(".")[0] for kind in KINDS}:
        raise InputError(f"there are no events of kind {word!r}", remedy=f"the kinds are {', '.join(KINDS)}")
    return word

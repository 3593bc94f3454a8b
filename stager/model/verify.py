"""Verification: what is asked, how far it is, what was found. Sizes are bytes, times seconds since 1970 UTC."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from stager.errors import InputError

MOST_FINDINGS = 1000
"""Named in one report; beyond them they are only counted."""
_PARTS = 1 << 32


class Problem(StrEnum):
    """What a verification finds."""

    DAMAGED = "damaged"
    """The bytes of an object don't have the digest that is its name."""
    UNREADABLE = "unreadable"
    """The disk did not give them: damaged, or the disk is failing."""
    DENIED = "denied"
    """This user may not read them; nothing is known."""
    ENTRY = "entry-without-object"
    OBJECT = "object-without-entry"
    FILE = "file-without-owner"
    THROWN = "trash-past-its-grace"


BAD = frozenset({Problem.DAMAGED, Problem.UNREADABLE, Problem.DENIED})
"""Those for which somebody should look at the disk."""


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What is to be verified.

    Attributes:
        bytes_per_second: at most so fast; None: as fast as can be.
        sample: part of the objects, drawn at random, 0 to 1.
        repair: take damaged objects away and clear up, instead of only saying so.
        threads: objects read at once; 0: one per core.
        anew: from the beginning, also if the last one was interrupted.

    Raises:
        InputError: a value that makes no sense.
    """

    bytes_per_second: int | None = None
    sample: float = 1.0
    repair: bool = False
    threads: int = 0
    anew: bool = False

    def __post_init__(self) -> None:
        if self.bytes_per_second is not None and self.bytes_per_second < 1:
            raise InputError(
                f"{self.bytes_per_second} bytes per second is no rate", remedy="give at least 1, or none"
            )
        if not 0 < self.sample <= 1:
            raise InputError(f"{self.sample:g} is no part", cause="more than 0 and at most 1 are")
        if not 0 <= self.threads <= 256:  # noqa: PLR2004 - see the sentence
            raise InputError(f"{self.threads} threads", cause="0 to 256 are possible")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        problem: what.
        path: where.
        object: SHA-256 of the object; empty: none is concerned.
        cause: in words.
        keys: what it was cached under, without secrets, as far as is known.
        readers: jobs that still read the damaged bytes.
        repaired: whether it was put right, or taken away to be fetched again.
        fetched_again: fetches under way that bring it anew.
    """

    problem: Problem
    path: str
    object: str = ""
    cause: str = ""
    keys: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    repaired: bool = False
    fetched_again: int = 0


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far a verification is.

    Attributes:
        objects: read so far.
        bytes: read so far.
        total: bytes there are to read, by what was met so far; None: too early to say.
        share: of the objects, 0 to 1.
        found: problems so far.
        bytes_per_second: over the last seconds.
        doing: ``objects`` or ``orphans``.
    """

    objects: int
    bytes: int
    total: int | None
    share: float
    found: int
    bytes_per_second: float
    doing: str = "objects"

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None: nobody knows."""
        if self.total is None or self.bytes_per_second <= 0:
            return None
        return max(0, self.total - self.bytes) / self.bytes_per_second


@dataclass(slots=True)
class VerifyReport:
    """A verification: kept on disk, so that it can be gone on with, and looked at afterwards.

    Attributes:
        root: of the cache.
        began_at: when; the same after it was gone on with.
        ended_at: when it came to its end; None: it has not.
        sample: see `VerifyRequest`.
        seed: which sample.
        after: all objects up to this digest are done.
        objects: read.
        bytes: read.
        sound: objects that are what their names say.
        counts: problems by kind.
        repaired: how many of them were put right.
        findings: the first `MOST_FINDINGS` of them.
        seconds: how long it ran, all parts together.
        resumed: how often it was gone on with.
    """

    root: str
    began_at: float
    ended_at: float | None = None
    sample: float = 1.0
    seed: int = 0
    after: str = ""
    objects: int = 0
    bytes: int = 0
    sound: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    repaired: int = 0
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    resumed: int = 0

    @property
    def share(self) -> float:
        """Of the objects that are done, 0 to 1: digests are spread evenly."""
        if self.ended_at is not None:
            return 1.0
        return int(self.after[:8] or "0", 16) / _PARTS

    @property
    def found(self) -> int:
        """Problems."""
        return sum(self.counts.values())

    @property
    def bad(self) -> int:
        """Objects that are damaged, or may be."""
        return sum(self.counts.get(problem, 0) for problem in BAD)

    def add(self, finding: Finding) -> None:
        """It was found."""
        self.counts[finding.problem.value] = self.counts.get(finding.problem.value, 0) + 1
        self.repaired += finding.repaired
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)

    def is_drawn(self, sha256: str) -> bool:
        """Whether the object belongs to the sample."""
        return self.sample >= 1 or (int(sha256[-8:], 16) + self.seed) % _PARTS < self.sample * _PARTS

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> VerifyReport:
        """The report that `to_dict` wrote.

        Raises:
            TypeError, ValueError, KeyError: it did not.
        """
        found = [
            Finding(
                **item
                | {
                    "problem": Problem(item["problem"]),
                    "keys": tuple(item["keys"]),
                    "readers": tuple(item["readers"]),
                }
            )
            for item in data.get("findings", [])
        ]
        return cls(**data | {"findings": found})

"""What a probe says: a finding per question, and what is recommended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What a finding means for a cache."""

    OK = "ok"
    LIMITED = "limited"
    """It works, without something that other file systems have."""
    SLOW = "slow"
    UNFIT = "unfit"
    """A cache can't be trusted, or not work, there."""
    NOT_MEASURED = "not measured"


RANK = (Verdict.UNFIT, Verdict.SLOW, Verdict.LIMITED)
"""The worst first; the others need no attention."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question.

    Attributes:
        name: of the question.
        verdict: what it means.
        measured: what was found, in words.
        why: what that means for a cache; empty when it needs no comment.
        value: the same as `measured` for programs; plain JSON, units as documented for each.
    """

    name: str
    verdict: Verdict
    measured: str
    why: str = ""
    value: Any = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A setting or a mount option that suits what was found.

    Attributes:
        kind: ``setting`` or ``mount``.
        name: of the setting or option.
        value: to give it.
        why: the reason.
    """

    kind: str
    name: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """All findings about one directory, and what follows."""

    directory: str
    findings: tuple[Finding, ...]
    recommendations: tuple[Recommendation, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all findings; what was not measured does not count."""
        found = {finding.verdict for finding in self.findings}
        return next((verdict for verdict in RANK if verdict in found), Verdict.OK)

    def finding(self, name: str) -> Finding:
        """The finding of that name.

        Raises:
            KeyError: there is none.
        """
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return {
            "directory": self.directory,
            "verdict": self.verdict.value,
            **_without(asdict(self), "directory"),
        }


def _without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}

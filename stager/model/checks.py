"""What a look at one part of the installation says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How a part is."""

    OK = "ok"
    WARNING = "warning"
    """It works; somebody should look at it."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """There is nothing to look at, or no way to."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer to one question about the installation; it holds no secret.

    Attributes:
        name: of the question.
        verdict: how that part is.
        finding: what was found.
        remedy: what the reader can do; empty when there is nothing to do.
    """

    name: str
    verdict: Health
    finding: str
    remedy: str = ""


def worst(checked: list[Checked]) -> Health:
    """The verdict on all of them; what was skipped does not count."""
    found = {one.verdict for one in checked}
    return next((verdict for verdict in (Health.FAILED, Health.WARNING) if verdict in found), Health.OK)


def judged_skew(name: str, seconds: float, against: str, most: float) -> Checked:
    """The verdict on a clock that is `seconds` ahead of ours (negative: behind), where `most` can be put up with."""
    found = f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this host's"
    if abs(seconds) <= most:
        return Checked(
            name, Health.OK, f"{against} is {found}" if abs(seconds) > most / 2 else f"{against} agrees"
        )
    remedy = "let both hosts take their time from the same source (chrony, ntpd)"
    return Checked(name, Health.WARNING, f"{against} is {found}", remedy)

"""How full the cache is, as bars with marks: where eviction begins and where it ends."""

from __future__ import annotations

from dataclasses import dataclass

from stager.model.eviction import LimitsView
from stager.model.shown import size

HUNDRED = 100


@dataclass(frozen=True, slots=True)
class Gauge:
    """A bar.

    Attributes:
        name: what is measured.
        used: of `total`, bytes.
        total: bytes.
        high: from this percentage on the cache is made smaller; None: there is no such limit.
        low: down to this percentage.
        said: in words.
    """

    name: str
    used: int
    total: int
    high: float | None
    low: float | None
    said: str

    @property
    def percent(self) -> float:
        """How full, 0 to 100."""
        return round(min(HUNDRED, HUNDRED * self.used / self.total), 1) if self.total else 0.0

    @property
    def is_over(self) -> bool:
        """Whether the cache is to be made smaller."""
        return self.high is not None and self.percent > self.high


def gauges(view: LimitsView | None) -> list[Gauge]:
    """What the limits say, largest concern first."""
    if view is None:
        return []
    limits = view.limits
    found = []
    if limits.max_cache_bytes:
        said = f"{size(view.size)} of the {size(limits.max_cache_bytes)} that the cache may hold"
        found.append(Gauge("Cache", view.size, limits.max_cache_bytes, 100.0, limits.low_percent, said))
    has_limit = limits.max_used_percent < HUNDRED
    high = limits.max_used_percent if has_limit else None
    low = limits.max_used_percent * limits.low_percent / HUNDRED if has_limit else None
    said = f"{size(view.used)} of {size(view.total)} in use by anybody, {size(view.free)} free; the cache holds {size(view.size)}"
    found.append(Gauge("File system", view.used, view.total, high, low, said))
    return found

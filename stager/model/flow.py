"""What flows into the cache, as people see it: transfers under way, and how much came in each minute."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stager.model.views import OriginView

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Transfer:
    """A fetch that runs. Sizes are bytes, times seconds since 1970 UTC.

    Attributes:
        fetch: its id.
        url: without secrets.
        owner: whose share it counts in; empty: nobody's in particular.
        jobs: ids of some jobs that need it.
        wanted_by: how many jobs need it.
        tries: number of the try that runs.
        received: in place so far.
        total: of how many; None: not known.
        began_at: when its first try began; None: not known.
        speed: bytes per second of late; None: not known yet.
    """

    fetch: str
    url: str
    owner: str
    jobs: tuple[str, ...]
    wanted_by: int
    tries: int
    received: int
    total: int | None
    began_at: float | None
    speed: float | None = None

    @property
    def share(self) -> float | None:
        """How much of it is in place, 0 to 1; None: not known."""
        return None if not self.total else min(1.0, self.received / self.total)

    @property
    def seconds_left(self) -> float | None:
        """At the speed of late; None: not known."""
        if self.total is None or not self.speed:
            return None
        return max(0, self.total - self.received) / self.speed


@dataclass(frozen=True, slots=True)
class WantedCredential:
    """A credential that fetches wait for.

    Attributes:
        host: for which it is to be given, with its port where that is not the usual one.
        owner: whose fetches they are; empty: nobody's in particular.
        fetches: how many wait for it.
        cause: what the origin said.
    """

    host: str
    owner: str
    fetches: int
    cause: str


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What runs, how many fetches wait for their turn, how origins cope, which credentials are missing."""

    transfers: tuple[Transfer, ...] = ()
    waiting: int = 0
    origins: tuple[OriginView, ...] = ()
    wanted: tuple[WantedCredential, ...] = ()

    def only(self, owner: str) -> UnderWay:
        """What of it is that owner's."""
        return replace(
            self,
            transfers=tuple(one for one in self.transfers if one.owner == owner),
            wanted=tuple(one for one in self.wanted if one.owner == owner),
        )


@dataclass(slots=True)
class Minute:
    """What came in one minute.

    Attributes:
        at: when it began, seconds since 1970 UTC.
        bytes: over the network.
        hits: inputs that were in the cache.
        misses: inputs that had to be transferred.
    """

    at: float
    bytes: int = 0
    hits: int = 0
    misses: int = 0

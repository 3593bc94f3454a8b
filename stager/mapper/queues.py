"""Where a fetch waits: a line for each owner at each origin.

The bookkeeping of `stager.mapper.admission`, which holds the rules. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from stager.mapper.origins import Origin
from stager.mapper.ranking import Ranking


class Entry(NamedTuple):
    """A fetch that waits. A heap of them is in order: `rank`, and the number decides among equals."""

    rank: float
    """When it began to wait, in units of the ageing time, less its priority: the lowest goes first."""
    serial: int
    fetch: str
    key: str
    priority: int
    line: Line


class Line:
    """The fetches of one owner that wait for one origin."""

    __slots__ = ("heap", "origin", "owner", "parked", "waiting")

    def __init__(self, owner: Owner, origin: OriginQueue) -> None:
        self.owner = owner
        self.origin = origin
        self.heap: list[Entry] = []
        self.waiting = 0
        """Fetches that wait, also those held back and those whose key is busy."""
        self.parked = False
        """Its owner does not look at it until the origin has a seat again."""


class Owner:
    """Somebody for whose jobs fetches are made."""

    __slots__ = ("in_flight", "lines", "name", "ranking", "served")

    def __init__(self, name: str, served: int) -> None:
        self.name = name
        self.served = served
        """Number of the pick that served it last; of the one it came after, if none did."""
        self.in_flight = 0
        """Seats."""
        self.lines: dict[str, Line] = {}
        """By the name of the origin."""
        self.ranking: Ranking[Entry, Line] = Ranking()
        """Lines that are not parked, by their first fetch."""


class OriginQueue:
    """What waits for one origin."""

    __slots__ = ("parked", "paused", "state", "tops", "waiting")

    def __init__(self, origin: Origin) -> None:
        self.state = origin
        self.waiting = 0
        self.paused = False
        self.parked: list[Line] = []
        self.tops: Ranking[int, Line] = Ranking()
        """Lines by the priority of their first fetch, the highest first."""


class Seat:
    """One connection's worth of work: fetches of one origin, done one after the other."""

    __slots__ = ("begun", "left", "origin", "owner")

    def __init__(self, owner: Owner, origin: OriginQueue) -> None:
        self.owner = owner
        self.origin = origin
        self.begun = origin.state.round
        self.left = 0
        """Fetches in it that have not ended."""

"""Plots as numbers for templates: where each part of a picture goes, in percent of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stager.model.catalogue import Share
from stager.model.flow import MINUTE, Minute

MOST_TILES = 24
"""Origins with a tile of their own; the others share one."""
OTHERS = "others"
_ASPECT = 3.0
"""A treemap is about so many times as wide as high."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a treemap, in percent of its width and height."""

    share: Share
    x: float
    y: float
    width: float
    height: float
    is_link: bool

    @property
    def has_room(self) -> bool:
        """Whether words fit."""
        return self.width > 9 and self.height > 13  # noqa: PLR2004 - by looking at it


def treemap(shares: Sequence[Share]) -> list[Tile]:
    """Tiles whose areas are as the bytes of the shares, the largest first, nearly square (Bruls and others, 2000)."""
    shares = [share for share in shares if share.bytes > 0]
    first, rest = shares[:MOST_TILES], shares[MOST_TILES:]
    if rest:
        name = f"{len(rest)} {OTHERS}"
        first = [*first, Share(name, sum(s.files for s in rest), sum(s.bytes for s in rest))]
    total = sum(share.bytes for share in first)
    if not total:
        return []
    areas = [100.0 * _ASPECT * 100.0 * share.bytes / total for share in first]
    found: list[tuple[float, float, float, float]] = []
    x, y, width, height = 0.0, 0.0, 100.0 * _ASPECT, 100.0
    while len(found) < len(areas):
        row = _row(areas[len(found) :], min(width, height))
        thick = sum(row) / min(width, height)
        at = 0.0
        for area in row:
            long = area / thick if thick else 0.0
            found.append((x, y + at, thick, long) if width >= height else (x + at, y, long, thick))
            at += long
        if width >= height:
            x, width = x + thick, max(0.0, width - thick)
        else:
            y, height = y + thick, max(0.0, height - thick)
    return [
        Tile(
            share,
            round(left / _ASPECT, 2),
            round(top, 2),
            round(wide / _ASPECT, 2),
            round(high, 2),
            is_link=not (rest and share is first[-1]),
        )
        for share, (left, top, wide, high) in zip(first, found, strict=True)
    ]


def _row(areas: Sequence[float], side: float) -> list[float]:
    """As many of the areas along a side as make their worst tile better."""
    row: list[float] = []
    for area in areas:
        if row and (side <= 0 or _worst([*row, area], side) > _worst(row, side)):
            break
        row.append(area)
    return row


def _worst(row: Sequence[float], side: float) -> float:
    total = sum(row)
    if total <= 0 or min(row) <= 0:
        return 0.0
    return max(side * side * max(row) / total**2, total**2 / (side * side * min(row)))


@dataclass(frozen=True, slots=True)
class Bar:
    """A share, and how long its bar is in percent of the longest."""

    share: Share
    percent: float


def bars(shares: Sequence[Share]) -> list[Bar]:
    """A bar for each share, in their order."""
    longest = max((share.bytes for share in shares), default=0)
    return [Bar(share, round(100 * share.bytes / longest, 1) if longest else 0.0) for share in shares]


@dataclass(frozen=True, slots=True)
class Slot:
    """Some minutes of the past, taken together.

    Attributes:
        at: when they began, seconds since 1970 UTC.
        speed: bytes per second that came over the network.
        hits, misses: inputs that were in the cache, and that were not.
        percent: of the fastest slot.
    """

    at: float
    speed: float
    hits: int
    misses: int
    percent: float

    @property
    def ratio(self) -> float | None:
        """Share of inputs that were there; None: none was asked for."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


@dataclass(frozen=True, slots=True)
class Course:
    """The last hours, oldest slot first.

    Attributes:
        slots: of equal length.
        fastest: bytes per second of the fastest slot.
        seconds: that a slot is long.
        ratio: of hits, over all of it; None: nothing was asked for.
        bytes: that came in all.
    """

    slots: list[Slot]
    fastest: float
    seconds: float
    ratio: float | None
    bytes: int


def course(minutes: Sequence[Minute], at_once: int, slots: int) -> Course:
    """The last `slots` times `at_once` minutes; what was before the first minute known is empty."""
    if not minutes:
        return Course([], 0.0, at_once * MINUTE, None, 0)
    length = at_once * MINUTE
    last = minutes[-1].at // length * length
    first = last - (slots - 1) * length
    sums = [[0, 0, 0] for _ in range(slots)]
    for minute in minutes:
        number = int((minute.at - first) // length)
        if 0 <= number < slots:
            for place, value in enumerate((minute.bytes, minute.hits, minute.misses)):
                sums[number][place] += value
    fastest = max(one[0] for one in sums) / length
    made = [
        Slot(
            first + n * length, one[0] / length, one[1], one[2],
            round(100 * one[0] / length / fastest, 1) if fastest else 0.0,
        )
        for n, one in enumerate(sums)
    ]  # fmt: skip
    hits, misses = sum(one[1] for one in sums), sum(one[2] for one in sums)
    ratio = hits / (hits + misses) if hits + misses else None
    return Course(made, fastest, length, ratio, sum(one[0] for one in sums))

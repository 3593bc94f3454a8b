"""Reflectometry runs as text: a header of ``# name: value`` lines, then the columns Q, R, dR, dQ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Point(NamedTuple):
    """Q (1/Å), reflected intensity, its standard deviation, the standard deviation of Q."""

    q: float
    r: float
    dr: float
    dq: float


@dataclass(frozen=True)
class Run:
    """One measurement at one angle."""

    header: dict[str, str]
    points: list[Point]


def read_run(path: Path) -> Run:
    """The run in a file."""
    lines = path.read_text("utf-8").splitlines()
    header = (line[1:].partition(":") for line in lines if line.startswith("#"))
    points = [Point(*map(float, line.split())) for line in lines if line and not line.startswith("#")]
    return Run({name.strip(): value.strip() for name, _, value in header}, points)


def write_run(path: Path, header: Mapping[str, object], points: Iterable[Point]) -> None:
    """Write what `read_run` reads."""
    lines = [f"# {name}: {value}" for name, value in header.items()]
    lines += ["  ".join(f"{value:.6e}" for value in point) for point in points]
    path.write_text("\n".join(lines) + "\n", "utf-8")

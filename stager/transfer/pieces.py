"""What a sidecar says of a partial file with gaps, which several streams were bringing; without I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

PIECES_VERSION = 2
"""Of such a sidecar. Who does not know it begins anew, instead of taking gaps for bytes."""

Beyond = Sequence[Sequence[int]]
"""Ranges in place after a gap: start and stop of each, in order. See `Spans.beyond`."""


class Pieces(NamedTuple):
    """What is in place of a partial file.

    Attributes:
        front: bytes without a gap, from the beginning.
        beyond: and after a gap.
        sidecar: what else was written, as of a file without gaps; None: nothing that is of use.
    """

    front: int
    beyond: Beyond
    sidecar: Mapping[str, Any] | None

    @classmethod
    def of(cls, size: int, sidecar: Mapping[str, Any] | None) -> Self:
        """What is in place of a file of `size` bytes with that sidecar."""
        if not sidecar or sidecar.get("version") != PIECES_VERSION:
            return cls(size, (), sidecar)
        front, beyond = sidecar.get("front"), sidecar.get("beyond")
        if not isinstance(beyond, list) or not all(isinstance(one, list) for one in beyond):
            return cls(0, (), None)
        bounds = [front, *(bound for one in beyond for bound in one)]
        if any(type(bound) is not int for bound in bounds) or any(len(one) != 2 for one in beyond):  # noqa: PLR2004
            return cls(0, (), None)
        if bounds != sorted(set(bounds)) or not 0 < bounds[0] <= bounds[-1] <= size:
            return cls(0, (), None)
        rest = {name: value for name, value in sidecar.items() if name not in {"front", "beyond"}}
        return cls(bounds[0], beyond, rest | {"version": PIECES_VERSION - 1})


def in_pieces(sidecar: Mapping[str, Any], front: int, beyond: Beyond) -> dict[str, Any]:
    """The sidecar of a file with these gaps; `Pieces.of` is the inverse."""
    return {**sidecar, "version": PIECES_VERSION, "front": front, "beyond": [list(one) for one in beyond]}

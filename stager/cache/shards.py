"""Walking the shard directories of a layout: some names at a time, and with an idea how much is still to come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from stager.cache.fresh import list_names, list_pieces
from stager.cache.layout import is_hex

BATCH = 512
"""Names at a time."""


@dataclass(slots=True)
class Estimate:
    """How many names have been looked at, and how many there will be: digests are spread evenly."""

    done: int = 0
    _before: int = 0
    _share: float = 0.0

    def begin(self) -> None:
        """Another tree of directories comes."""
        self._before, self._share = self.done, 0.0

    def reach(self, part: int, parts: int) -> None:
        """So many of its directories are behind us."""
        self._share = part / parts

    @property
    def whole(self) -> int:
        """At least what is done."""
        here = self.done - self._before
        return self._before + (round(here / self._share) if self._share else here)


def batches(
    root: str, widths: tuple[int, ...], estimate: Estimate, *, removing: bool = False
) -> Iterator[list[str]]:
    """The names in the directories of the last level below `root`, some at a time.

    What is made meanwhile may be among them or not; everything else comes once, or more often if the caller is
    `removing` names: then a large directory is listed again until nothing more goes, because removing between two
    readings of a directory makes some file systems pass over others.

    Raises:
        OSError: a directory can't be read.
    """
    estimate.begin()
    shards = [name for name in list_names(root) if is_shard(name, widths)] if widths else [""]
    for number, shard in enumerate(shards):
        for directory in _leaves(f"{root}/{shard}".rstrip("/"), widths[1:]):
            for batch in _listed(directory, again=removing):
                estimate.done += len(batch)
                yield batch
        estimate.reach(number + 1, len(shards))


def is_shard(name: str, widths: tuple[int, ...]) -> bool:
    """Whether that could be a directory of the first of these levels."""
    return len(name) == widths[0] and is_hex(name)


def remove_empty(directory: str, widths: tuple[int, ...]) -> None:
    """Remove those directories of these levels that are empty; what is in the others, or new, stays."""
    if not widths:
        return
    for name in list_names(directory):
        if is_shard(name, widths):
            remove_empty(f"{directory}/{name}", widths[1:])
            with suppress(OSError):
                os.rmdir(f"{directory}/{name}")


def _leaves(directory: str, widths: tuple[int, ...]) -> Iterator[str]:
    if not widths:
        yield directory
        return
    for name in list_names(directory):
        if is_shard(name, widths):
            yield from _leaves(f"{directory}/{name}", widths[1:])


def _listed(directory: str, *, again: bool) -> Iterator[list[str]]:
    before = -1
    while True:
        count = 0
        for batch in list_pieces(directory, BATCH):
            count += len(batch)
            yield batch
        if not again or count <= BATCH or count == before:
            return
        before = count

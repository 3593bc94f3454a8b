"""Which compute node has most of a job's bytes in its own cache."""

from __future__ import annotations

import time
from collections.abc import Sequence

from stager.farm.names import WORK_QUEUE
from stager.model.events import DispatchInput
from stager.signals.holdings import Holdings
from stager.signals.roster import Roster

AGAIN_SECONDS = 5.0
"""So long it is known which nodes there are, and which have a cache of their own."""


class Nearest:
    """Asks Redis; not for several threads at once.

    Args:
        roster: says which nodes take jobs; closed with this.
        holdings: say what they have; closed with this.
    """

    def __init__(self, roster: Roster, holdings: Holdings) -> None:
        self._roster = roster
        self._holdings = holdings
        self._nodes: list[str] = []
        self._asked_at: float | None = None

    def close(self) -> None:
        """Close the connections."""
        self._roster.close()
        self._holdings.close()

    def nodes(self, jobs: Sequence[Sequence[DispatchInput]]) -> list[str | None]:
        """For the inputs of each job the node that has most bytes of them; None: no node has any.

        Raises:
            SignalsError: Redis can't be used.
        """
        holders = self._holders()
        digests = list({item.sha256 for inputs in jobs for item in inputs}) if holders else []
        if not digests:
            return [None] * len(jobs)
        held = self._holdings.held(holders, digests)
        return [_richest(held, inputs) for inputs in jobs]

    def _holders(self) -> list[str]:
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at > AGAIN_SECONDS:
            there = {card.node for card in self._roster.workers() if WORK_QUEUE in card.queues}
            self._nodes = self._holdings.holders(sorted(there)) if there else []
            self._asked_at = now
        return self._nodes


def _richest(held: dict[str, set[str]], inputs: Sequence[DispatchInput]) -> str | None:
    sizes = {
        node: sum(item.size for item in inputs if item.sha256 in digests) for node, digests in held.items()
    }
    node = max(sizes, key=lambda one: sizes[one])  # of equal ones the first by name
    return node if sizes[node] else None

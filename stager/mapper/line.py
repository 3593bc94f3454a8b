"""The line of jobs that are ready: whose turn is next, and how many may be handed over at once. Pure."""

from __future__ import annotations

import heapq

from stager.model.records import JobRecord


class Line:
    """Jobs in the order of their turn: by priority, then by age.

    Args:
        slots: jobs that may be handed over at once; None: no limit.
    """

    def __init__(self, slots: int | None) -> None:
        self.slots = slots
        self._queue: list[tuple[int, str]] = []  # heap of (-priority, job); ids sort by time
        self.handed: set[str] = set()
        """Jobs handed over and not known to be over."""
        self.again: list[str] = []
        """Jobs handed over whose place has to be told again, under the same id."""

    @property
    def pending(self) -> bool:
        """Whether it is somebody's turn."""
        has_slot = self.slots is None or len(self.handed) < self.slots
        return bool(self._queue) and has_slot

    def all(self) -> set[str]:
        """Who stands in it; some may have left."""
        return {job for _, job in self._queue}

    def add(self, job: JobRecord) -> None:
        """The job is ready."""
        heapq.heappush(self._queue, (-job.priority, job.id))

    def next(self) -> str:
        """The one whose turn it is; it may have left meanwhile."""
        return heapq.heappop(self._queue)[1]

"""The whole installation at a glance: what runs, what waits and for what, what failed and why, how much room there is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stager.clock import Clock
from stager.errors import StagerError
from stager.model.eviction import LimitsView
from stager.model.flow import UnderWay
from stager.model.jobs import JobState
from stager.model.views import JobView
from stager.service.cache_watch import CacheState
from stager.service.jobs import JobService
from stager.service.site import SiteService

MOST_JOBS = 10
"""Of a state; the list of jobs has the others."""
FRESH_SECONDS = 1.0
"""What is as old as this is shown again, however many look."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of things. What could not be found out is None, with the reason in `troubles`.

    Attributes:
        at: when it was taken, seconds since 1970 UTC.
        counts: number of jobs by state.
        under_way: transfers that run, how many fetches wait, how origins cope, which credentials are missing.
        waiting: jobs that wait, newest first, with what each waits for.
        failed: jobs that failed, newest first.
        running: jobs that run.
        limits: where the cache stands; None: this server has none, or it can't be read.
        cache: whether the cache can be used.
        troubles: what could not be found out, and why.
    """

    at: float
    counts: dict[str, int]
    under_way: UnderWay
    waiting: Sequence[JobView]
    failed: Sequence[JobView]
    running: Sequence[JobView]
    limits: LimitsView | None = None
    cache: CacheState | None = None
    troubles: list[StagerError] = field(default_factory=list)


class OverviewService:
    """Takes overviews, at most one a second however many ask. Its calls may come from any thread.

    Args:
        jobs: knows the jobs.
        site: knows the state of the cache.
        clock: the time.
        under_way: what runs; None: nothing does here.
        limits: where the cache stands; None: there is none.
    """

    def __init__(
        self,
        jobs: JobService,
        site: SiteService,
        clock: Clock,
        under_way: Callable[[], UnderWay] = UnderWay,
        limits: Callable[[], LimitsView] | None = None,
    ) -> None:
        self._jobs = jobs
        self._site = site
        self._clock = clock
        self._under_way = under_way
        self._limits = limits
        self._lock = threading.Lock()
        self._taken: dict[str | None, tuple[float, Overview]] = {}

    def take(self, owner: str | None = None) -> Overview:
        """The state of things, or that of a moment ago; of jobs and transfers only those of `owner`, if one is given.

        Raises:
            StateError: the database can't be read.
        """
        with self._lock:
            now = self._clock.monotonic()
            self._taken = {who: one for who, one in self._taken.items() if now - one[0] <= FRESH_SECONDS}
            if owner not in self._taken:
                self._taken[owner] = now, self._look(owner)
            return self._taken[owner][1]

    def _look(self, owner: str | None) -> Overview:
        counts = self._jobs.counts(owner)
        troubles: list[StagerError] = []

        def some(*states: JobState) -> Sequence[JobView]:
            wanted = [state for state in states if counts[state.value]]
            return self._jobs.jobs(states=wanted, limit=MOST_JOBS, owner=owner) if wanted else ()

        under_way = self._under_way()
        if owner is not None:
            under_way = under_way.only(owner)
        return Overview(
            self._clock.time(),
            counts,
            under_way,
            some(JobState.WAITING),
            some(JobState.FAILED),
            some(JobState.READY, JobState.DISPATCHED, JobState.RUNNING),
            None if self._limits is None else _told(self._limits, troubles),
            self._site.cache_state(),
            troubles,
        )


def _told(ask: Callable[[], Any], troubles: list[StagerError]) -> Any:
    try:
        return ask()
    except StagerError as error:
        troubles.append(error)
        return None

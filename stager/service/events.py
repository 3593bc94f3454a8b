"""What happened, for those who follow it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import Any

from stager.mapper.loop import Mapper
from stager.model.chronicle import Choice, Event, check_kind
from stager.model.records import Changes
from stager.service.jobs import JobService
from stager.state.chronicle import Chronicle

log = logging.getLogger(__name__)


class EventService:
    """The chronicle of one server. All methods may be called from any thread.

    Args:
        chronicle: where events are kept.
        mapper: writes them.
        jobs: knows what belongs to a job.
    """

    def __init__(self, chronicle: Chronicle, mapper: Mapper, jobs: JobService) -> None:
        self._chronicle = chronicle
        self._mapper = mapper
        self._jobs = jobs
        self._follower: Callable[[Sequence[Event]], None] = lambda _: None
        self.newest = chronicle.newest
        """Number of the last event; 0: there was none."""
        self.oldest = chronicle.oldest
        """Number of the first one that can be read; one after the newest if none can."""
        self.read = chronicle.read
        """Events after a number, at most so many."""

    def follow(self, follower: Callable[[Sequence[Event]], None]) -> None:
        """Call `follower` with the events of each batch, in the mapper's thread: it must be quick, and not raise."""
        self._follower = follower

    def tell(self, changes: Changes) -> None:
        """These changes are durable."""
        if changes.events:
            self._follower(changes.events)

    def record(self, kind: str, user: str = "", **details: Any) -> None:
        """Something happened that no record shows; it is written soon, and lost if the server is killed before."""
        event = Event(kind, user, details=details)
        self._mapper.repair(lambda machine, _: machine.besides.told.append(event)).add_done_callback(_noted)

    def choice(
        self,
        *,
        jobs: Collection[str] = (),
        stages: Collection[str] = (),
        users: Collection[str] = (),
        kinds: Collection[str] = (),
        only: str | None = None,
    ) -> Choice:
        """The events that somebody wants, by what he names; `only`: who that is, if he may know of his own alone.

        Raises:
            NotFoundError, ConflictError: no such job, or several.
            InputError: no such kind.
        """
        ids = [self._jobs.find(word, only) for word in jobs]
        wanted = [self._jobs.wants(job) for job in ids]
        return Choice(
            jobs=frozenset(ids),
            fetches=frozenset(fetch for fetches, _ in wanted for fetch in fetches),
            names=frozenset(name for _, names in wanted for name in names),
            stages=frozenset(stages),
            users=frozenset(users),
            kinds=frozenset(map(check_kind, kinds)),
            only=only,
        )


def _noted(answer: Future[Any]) -> None:
    if (error := answer.exception()) is not None:
        log.warning("an event was not recorded: %s", error)

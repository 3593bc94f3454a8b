"""What a server does for its cache on its own: sees that it is there, verifies it, tells the mapper."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from stager.clock import Clock
from stager.errors import StateError
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.mapper.repairs import lose_object
from stager.service.cache_site import CacheSite
from stager.service.cache_watch import CacheWatch
from stager.service.scrub_schedule import ScrubSchedule
from stager.settings import Settings

log = logging.getLogger(__name__)

PAUSE_SECONDS = 86_400.0
"""Until the watch says that the cache is back; the mapper looks for itself after a day."""
ANSWER_SECONDS = 60.0


class CacheCare:
    """The threads that look after the cache, from `start` to `close`.

    Args:
        settings: how often, how fast.
        site: the cache and its services.
        mapper: is told what is lost, and when the cache can't be used.
        clock: the time.
    """

    def __init__(self, settings: Settings, site: CacheSite, mapper: Mapper, clock: Clock) -> None:
        self._mapper = mapper
        site.verification.lose = self._lose
        self.watch = CacheWatch(site.cache, clock, self._tell)
        self._schedule = ScrubSchedule(
            site.verification,
            clock,
            days=settings.verify_days,
            bytes_per_second=settings.verify_bytes_per_second,
        )
        self._site = site

    def start(self) -> None:
        """Begin."""
        self.watch.start()
        self._schedule.start()

    def close(self) -> None:
        """End; a verification that runs for somebody ends too, and can be gone on with."""
        with ExitStack() as ends:
            ends.callback(self.watch.close)
            ends.callback(self._schedule.close)
            ends.callback(self._site.verification.stop)

    def _lose(self, sha256: str) -> int:
        """The object was taken away; how many fetches bring it anew."""
        try:
            lost: int = self._mapper.repair(lambda machine, _: lose_object(machine, sha256)).result(
                ANSWER_SECONDS
            )
        except (StateError, TimeoutError) as error:  # found missing when the next job is handed over
            log.warning("object %s is gone, and the mapper was not told: %s", sha256, error)
            return 0
        return lost

    def _tell(self, usable: bool) -> None:
        def pause(machine: Machine, now: float) -> None:
            machine.flights.admission.pause(0.0 if usable else now + PAUSE_SECONDS)

        self._mapper.repair(pause)

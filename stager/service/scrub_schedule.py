"""Every object is verified once in so many days: slowly, by a thread of the server, what was longest not looked at."""

from __future__ import annotations

import logging
import threading

from stager.clock import Clock
from stager.errors import CacheError, ConflictError, StateError
from stager.model.verify import VerifyRequest
from stager.service.cache_verify import VerifyService

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400.0
ROUND_SECONDS = 3600.0
"""From the end of one round through what is due to the next one."""
AGAIN_SECONDS = 60.0
"""Until it is tried again when somebody else verifies, or the cache can't be read."""


class ScrubSchedule:
    """One thread, which sleeps in between; what it has verified is in the catalogue, so it can end at any time.

    Args:
        service: verifies.
        clock: the time.
        days: an object is due when it was not verified for so long; 0: never.
        bytes_per_second: at most so fast.
    """

    def __init__(self, service: VerifyService, clock: Clock, *, days: float, bytes_per_second: int) -> None:
        self._service = service
        self._clock = clock
        self._days = days
        self._request = VerifyRequest(bytes_per_second=bytes_per_second, repair=True, threads=1)
        self._closed = threading.Event()
        self._silent = False
        self._thread = threading.Thread(target=self._run, name="verify", daemon=True)

    def start(self) -> None:
        """Begin, if it is to be done at all."""
        if self._days > 0:
            self._thread.start()

    def close(self) -> None:
        """End; what is being read is given up."""
        self._closed.set()
        if self._thread.is_alive():
            self._service.stop()
            self._thread.join()

    def _run(self) -> None:
        after = ""
        while not self._closed.wait(self._pause):
            after = self._step(after)

    _pause = 5.0  # a server that has just begun has other things to do

    def _step(self, after: str) -> str:
        """Verify some; where to go on."""
        try:
            after = self._service.verify_some(
                self._request, self._clock.time() - self._days * DAY_SECONDS, after
            )
        except ConflictError:
            self._pause = AGAIN_SECONDS
        except (CacheError, StateError) as error:
            if not self._silent:
                log.warning("the cache is not verified: %s", error)
            self._silent, self._pause = True, AGAIN_SECONDS
        except Exception:
            log.exception("internal fault while the cache was verified")
            self._pause = ROUND_SECONDS
        else:
            self._silent, self._pause = False, 0.0 if after else ROUND_SECONDS
        return after

"""Where new ids come from."""

from __future__ import annotations

import secrets
import threading

from stager.clock import Clock
from stager.model.ids import encode_id


class IdMaker:
    """Ids that sort by time, unique in this process for certain and elsewhere in all likelihood.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0
        self._serial = 0

    def __iter__(self) -> IdMaker:
        return self

    def __next__(self) -> str:
        """The next id, greater than all before."""
        with self._lock:
            now = int(self._clock.time() * 1000)
            if now > self._last:
                self._last, self._serial = now, secrets.randbits(20)
            else:
                self._serial += 1  # 3 million more fit in a millisecond
            return encode_id(self._last, self._serial)

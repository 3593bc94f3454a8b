"""Promised space of all workers of a farm: see `stager.cache.space`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from stager.errors import SignalsError
from stager.signals import keys
from stager.signals.connection import RedisAddress

KEEP_SECONDS = 1.0
"""Between two words about how much of the promises is left."""

log = logging.getLogger(__name__)

_PROMISE = """
local others = 0
local found = redis.call('HGETALL', KEYS[1])
for i = 1, #found, 2 do
  if found[i] ~= ARGV[1] then others = others + tonumber(found[i + 1]) end
end
if others + tonumber(ARGV[2]) > tonumber(ARGV[3]) then return tostring(others) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""
_KEEP = """
for i = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
"""


class SharedPromises:
    """In Redis. While that is away nothing is promised: then the file system itself says when it is full.

    Args:
        address: where Redis is.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._redis = address.connect()
        self._lock = threading.Lock()
        self._left: dict[str, int] = {}
        self._kept_at = 0.0
        self._promise = self._redis.register_script(_PROMISE)
        self._keep = self._redis.register_script(_KEEP)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def promise(self, fetch: str, size: int, room: int) -> int | None:
        """See `stager.cache.space.Promises.promise`."""
        try:
            with self._address.speaking():
                others = self._promise(keys=[keys.RESERVED], args=[fetch, size, room])
        except SignalsError as error:
            log.warning("space is not promised: %s", error)
            return None
        return None if others is None else int(float(others))

    def keep(self, left: Mapping[str, int]) -> None:
        """See `stager.cache.space.Promises.keep`; sent now and then."""
        with self._lock:
            self._left |= left
            now = time.monotonic()
            if now - self._kept_at < KEEP_SECONDS:
                return
            self._kept_at = now
            some, self._left = self._left, {}
        try:
            with self._address.speaking():
                self._keep(keys=[keys.RESERVED], args=[value for pair in some.items() for value in pair])
        except SignalsError as error:
            log.debug("%s", error)

    def withdraw(self, fetch: str) -> None:
        """See `stager.cache.space.Promises.withdraw`."""
        with self._lock:
            self._left.pop(fetch, None)
        try:
            with self._address.speaking():
                self._redis.hdel(keys.RESERVED, fetch)
        except SignalsError as error:  # it goes with the order, when that is dropped
            log.debug("%s", error)

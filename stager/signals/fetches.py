"""Orders of fetches and the leases on them: put by the server, taken by workers.

What goes with a Celery task is ids alone; the order itself (which may have a signed URL) lies here and
is dropped when the fetch is over. A lease only saves work: it tells a task that was delivered twice from
one whose worker died. Whoever loses its lease to a newer generation breaks off.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any

import redis

from stager.model.fetches import FetchOrder
from stager.signals import keys
from stager.signals.codec import fetch_order_from_json, fetch_order_to_json
from stager.signals.connection import RedisAddress

Try = tuple[str, int]
"""Id and generation of a fetch."""

_TAKE = """
local taken = {}
for i = 3, #ARGV, 2 do
  local fetch, generation = ARGV[i], tonumber(ARGV[i + 1])
  local order = redis.call('HGET', KEYS[1], fetch)
  if order and cjson.decode(order)[1] == generation then
    local lease = redis.call('GET', KEYS[2] .. fetch)
    local holder, held = nil, nil
    if lease then held, holder = string.match(lease, '^(%d+) (.*)$') end
    if not lease or holder == ARGV[1] or tonumber(held) < generation then
      redis.call('SET', KEYS[2] .. fetch, generation .. ' ' .. ARGV[1], 'PX', ARGV[2])
      taken[#taken + 1] = fetch
      taken[#taken + 1] = order
      local unwanted = redis.call('GET', KEYS[3] .. fetch)
      taken[#taken + 1] = (unwanted and tonumber(unwanted) >= generation) and 1 or 0
    end
  end
end
return taken
"""
_RENEW = """
local states = {}
for i = 3, #ARGV, 2 do
  local fetch, generation = ARGV[i], tonumber(ARGV[i + 1])
  local key, mine = KEYS[2] .. fetch, generation .. ' ' .. ARGV[1]
  local lease, unwanted = redis.call('GET', key), redis.call('GET', KEYS[1] .. fetch)
  local state = 0
  if lease and lease ~= mine then state = 1
  else redis.call('SET', key, mine, 'PX', ARGV[2]) end
  if unwanted and tonumber(unwanted) >= generation then state = 2 end
  states[#states + 1] = state
end
return states
"""
_RELEASE = """
for i = 2, #ARGV, 2 do
  local key = KEYS[1] .. ARGV[i]
  if redis.call('GET', key) == ARGV[i + 1] .. ' ' .. ARGV[1] then redis.call('DEL', key) end
end
"""


class Hold(IntEnum):
    """What became of a lease."""

    KEPT = 0
    LOST = 1
    CANCELLED = 2


class FetchBook:
    """See the module. All methods raise `SignalsError` when Redis can't be used, and can be called again then.

    Args:
        address: where Redis is.
        lease_seconds: how long a lease lives without being renewed.
    """

    def __init__(self, address: RedisAddress, *, lease_seconds: float) -> None:
        self._address = address
        self._redis = address.connect()
        self._lease = int(lease_seconds * 1000)
        self._take = self._redis.register_script(_TAKE)
        self._renew = self._redis.register_script(_RENEW)
        self._release = self._redis.register_script(_RELEASE)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    # -- the server's side ----------------------------------------------------------------------

    def put(self, orders: Sequence[FetchOrder]) -> None:
        """Write orders down, for the tasks that are sent next."""
        with self._address.speaking():
            self._redis.hset(
                keys.FETCHES, mapping={order.fetch: fetch_order_to_json(order) for order in orders}
            )

    def drop(self, fetches: Sequence[str]) -> None:
        """These are over."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hdel(keys.FETCHES, *fetches)
            pipe.hdel(keys.RESERVED, *fetches)
            pipe.delete(*(keys.CANCEL + fetch for fetch in fetches))
            pipe.execute()

    def forget(self, fetches: Sequence[str]) -> None:
        """Nobody wants to know of these any more; whoever works on them is to stop."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hdel(keys.FETCHES, *fetches)
            pipe.hdel(keys.RESERVED, *fetches)
            pipe.execute()

    def cancel(self, tries: Iterable[Try]) -> None:
        """These tries, and those before them, are not wanted any more."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            for fetch, generation in tries:
                pipe.set(keys.CANCEL + fetch, generation, ex=keys.CANCEL_SECONDS)
            pipe.execute()

    def tries(self) -> list[Try]:
        """Those that have an order here."""
        with self._address.speaking():
            found: Any = self._redis.hgetall(keys.FETCHES)
        return [(fetch.decode(), int(json.loads(order)[0])) for fetch, order in found.items()]

    def knows(self, order: FetchOrder) -> bool:
        """Whether this order, of this generation, is written down."""
        with self._address.speaking():
            found: Any = self._redis.hget(keys.FETCHES, order.fetch)
        return found is not None and found.decode() == fetch_order_to_json(order)

    def backlog(self, queues: Iterable[str]) -> int:
        """Tasks that no worker has taken from these queues yet."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            for queue in queues:
                pipe.llen(queue)
            return int(sum(pipe.execute()))

    # -- the worker's side ----------------------------------------------------------------------

    def take(self, worker: str, tries: Sequence[Try]) -> list[tuple[FetchOrder, bool]]:
        """Lease those that are still to be done and that nobody else has; their orders, and which are cancelled."""
        with self._address.speaking():
            found: Any = self._take(
                keys=[keys.FETCHES, keys.LEASE, keys.CANCEL], args=[worker, self._lease, *_flat(tries)]
            )
        return [
            (fetch_order_from_json(fetch.decode(), order), bool(unwanted))
            for fetch, order, unwanted in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]

    def renew(self, worker: str, tries: Sequence[Try]) -> list[Hold]:
        """Say that the worker still works on these; what became of each."""
        with self._address.speaking():
            found: Any = self._renew(
                keys=[keys.CANCEL, keys.LEASE], args=[worker, self._lease, *_flat(tries)]
            )
        return [Hold(state) for state in found]

    def release(self, pipe: redis.client.Pipeline, worker: str, tries: Sequence[Try]) -> None:
        """In `pipe`: give the leases back."""
        self._release(keys=[keys.LEASE], args=[worker, *_flat(tries)], client=pipe)


def _flat(tries: Iterable[Try]) -> list[str | int]:
    return [value for one in tries for value in one]

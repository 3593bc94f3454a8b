"""What compute nodes hold in their own caches: each says so itself, and counts as empty when it stops saying so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence

from stager.errors import StagerError
from stager.signals import keys
from stager.signals.connection import RedisAddress

log = logging.getLogger(__name__)

_DIGESTS_AT_ONCE = 5000
AGAIN_SECONDS = 10.0
"""After Redis could not be told."""


class Holdings:
    """Sets of digests in Redis. All methods raise `SignalsError` when it can't be used.

    Args:
        address: where Redis is.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._redis = address.connect()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def announce(self, node: str, digests: Iterable[str]) -> None:
        """Say what the node holds; good for `keys.HOLDINGS_SECONDS`."""
        key, all_ = keys.HOLDINGS + node, list(digests)
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=True)
            pipe.delete(key)
            for first in range(0, len(all_), _DIGESTS_AT_ONCE):
                pipe.sadd(key, *all_[first : first + _DIGESTS_AT_ONCE])
            pipe.expire(key, keys.HOLDINGS_SECONDS)
            pipe.execute()

    def add(self, node: str, digests: Sequence[str]) -> None:
        """Say that the node holds these as well."""
        key = keys.HOLDINGS + node
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=True)
            pipe.sadd(key, *digests)
            pipe.expire(key, keys.HOLDINGS_SECONDS)
            pipe.execute()

    def holders(self, nodes: Collection[str]) -> list[str]:
        """Those of the nodes that hold anything."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            for node in nodes:
                pipe.exists(keys.HOLDINGS + node)
            return [node for node, there in zip(nodes, pipe.execute(), strict=True) if there]

    def held(self, nodes: Sequence[str], digests: Sequence[str]) -> dict[str, set[str]]:
        """Which of the digests each node holds."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            for node in nodes:
                pipe.smismember(keys.HOLDINGS + node, list(digests))
            found = pipe.execute()
        return {
            node: {digest for digest, there in zip(digests, flags, strict=True) if there}
            for node, flags in zip(nodes, found, strict=True)
        }


class HoldingsTeller:
    """Says now and then, from a thread of its own, what a node holds.

    Args:
        holdings: where it is said; closed with this.
        node: its name.
        digests: looks what there is.
    """

    def __init__(self, holdings: Holdings, node: str, digests: Callable[[], Iterable[str]]) -> None:
        self._holdings = holdings
        self._node = node
        self._digests = digests
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdings", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Say nothing any more."""
        self._closed.set()
        self._thread.join()
        self._holdings.close()

    def _run(self) -> None:
        wait = 0.0
        while not self._closed.wait(wait):
            try:
                self._holdings.announce(self._node, self._digests())
                wait = keys.HOLDINGS_SECONDS / 3
            except StagerError as error:
                log.log(logging.DEBUG if wait == AGAIN_SECONDS else logging.WARNING, "%s", error)
                wait = AGAIN_SECONDS

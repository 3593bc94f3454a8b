"""Which workers there are: each says so itself, and is forgotten when it stops saying so."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from stager.signals import keys
from stager.signals.connection import RedisAddress


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """What a worker process says of itself.

    Attributes:
        name: of the process.
        node: of its host.
        queues: from which it takes tasks.
        pid: on its host.
        threads: tasks at once.
        busy: fetches and jobs in hand.
        version: of the program.
        started_at: seconds since 1970 UTC.
        said_at: when it said so, by its own clock; 0: it does not tell.
    """

    name: str
    node: str
    queues: tuple[str, ...]
    pid: int
    threads: int
    busy: int
    version: str
    started_at: float
    said_at: float = 0.0


_FIELDS = frozenset(field.name for field in fields(WorkerCard))


class Roster:
    """Cards of workers in Redis. All methods raise `SignalsError` when it can't be used.

    Args:
        address: where Redis is.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._redis = address.connect()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def announce(self, card: WorkerCard) -> None:
        """Say that the worker is there; good for `keys.WORKER_SECONDS`."""
        with self._address.speaking():
            self._redis.set(keys.WORKER + card.name, json.dumps(asdict(card)), ex=keys.WORKER_SECONDS)

    def leave(self, name: str) -> None:
        """The worker goes."""
        with self._address.speaking():
            self._redis.delete(keys.WORKER + name)

    def workers(self) -> list[WorkerCard]:
        """All that are there, by name."""
        with self._address.speaking():
            names = list(self._redis.scan_iter(match=keys.WORKER + "*", count=1000))
            found: Any = self._redis.mget(names) if names else []
        cards = [parse_card(text) for text in found if text is not None]
        return sorted((card for card in cards if card is not None), key=lambda card: card.name)


def parse_card(text: bytes) -> WorkerCard | None:
    """The card; None if another version wrote it in another way."""
    try:
        data = json.loads(text)
        told = {name: value for name, value in data.items() if name in _FIELDS}  # a newer one may say more
        return WorkerCard(**told | {"queues": tuple(data["queues"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None

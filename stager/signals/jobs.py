"""Orders of jobs: put by the server, taken by compute nodes.

What goes with a Celery task is ``job`` and ``epoch`` alone; the order itself (its variables may be secret)
lies here until the end of the job is recorded. That it is gone tells a node that the server knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stager.signals import keys
from stager.signals.connection import RedisAddress

HandOverId = tuple[str, int]
"""Job and epoch."""
_MESSAGES_AT_ONCE = 1000


class Found(NamedTuple):
    """What a node finds: the order (None: there is none), whether it is cancelled, in which stream signals go now."""

    order: str | None
    cancelled: bool
    stream: str


class News(NamedTuple):
    """What has become of hand-overs: those with an order, those cancelled, and in which stream signals go now."""

    ordered: set[HandOverId]
    cancelled: set[HandOverId]
    stream: str


class JobBook:
    """See the module. All methods raise `SignalsError` when Redis can't be used; writes may then be half done.

    Args:
        address: where Redis is.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._redis = address.connect()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    # -- the server's side ----------------------------------------------------------------------

    def put_new(self, orders: Mapping[HandOverId, str]) -> list[bool]:
        """Write orders down that are not there; of each whether it was not."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            for one, order in orders.items():
                pipe.hsetnx(keys.JOBS, _field(one), order)
            return [bool(new) for new in pipe.execute()]

    def put(self, orders: Mapping[HandOverId, str]) -> None:
        """Write orders down, whatever is there."""
        with self._address.speaking():
            self._redis.hset(keys.JOBS, mapping={_field(one): order for one, order in orders.items()})

    def drop(self, ids: Collection[HandOverId]) -> None:
        """These are over and recorded. Cancels stay: a node may hear of them late."""
        with self._address.speaking():
            self._redis.hdel(keys.JOBS, *(_field(one) for one in ids))

    def cancel(self, ids: Iterable[HandOverId]) -> None:
        """These are not wanted any more."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            for one in ids:
                pipe.set(keys.CANCEL_JOB + _field(one), "", ex=keys.CANCEL_SECONDS)
            pipe.execute()

    def ids(self) -> list[HandOverId]:
        """All that have an order here."""
        with self._address.speaking():
            found: list[bytes] = self._redis.hkeys(keys.JOBS)  # type: ignore[assignment]  # never awaitable here
        return [_id(field) for field in found]

    def backlog(self, queues: Iterable[str]) -> int:
        """Tasks that no worker has taken from these queues yet."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            for queue in queues:
                pipe.llen(queue)
            return int(sum(pipe.execute()))

    def messages(self, queues: Iterable[str]) -> Iterator[bytes]:
        """Those tasks themselves, as the broker keeps them; one that is taken meanwhile may be missed."""
        for queue in queues:
            at = 0
            while True:
                with self._address.speaking():
                    found: Any = self._redis.lrange(queue, at, at + _MESSAGES_AT_ONCE - 1)
                yield from found
                if len(found) < _MESSAGES_AT_ONCE:
                    break
                at += len(found)

    # -- the node's side ------------------------------------------------------------------------

    def find(self, one: HandOverId) -> Found:
        """The order of that hand-over."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hget(keys.JOBS, _field(one))
            pipe.exists(keys.CANCEL_JOB + _field(one))
            pipe.get(keys.STREAM)
            order, cancelled, stream = pipe.execute()
        return Found(
            None if order is None else order.decode(), bool(cancelled), stream.decode() if stream else ""
        )

    def look(self, ids: Sequence[HandOverId]) -> News:
        """What has become of these."""
        with self._address.speaking():
            pipe = self._redis.pipeline(transaction=False)
            for one in ids:
                pipe.hexists(keys.JOBS, _field(one))
                pipe.exists(keys.CANCEL_JOB + _field(one))
            pipe.get(
                keys.STREAM
            )  # last: if it is still the same, nothing was emptied before the answers above
            *found, stream = pipe.execute()
        return News(
            {one for one, there in zip(ids, found[::2], strict=True) if there},
            {one for one, there in zip(ids, found[1::2], strict=True) if there},
            stream.decode() if stream else "",
        )


def _field(one: HandOverId) -> str:
    return f"{one[0]}:{one[1]}"


def _id(field: bytes) -> HandOverId:
    job, _, epoch = field.decode().rpartition(":")
    return job, int(epoch)

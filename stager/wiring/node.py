"""The parts of a worker process that runs jobs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Self

from stager.cache.store import FileCache
from stager.errors import SettingsError, SignalsError
from stager.mapper.dispatch.node import JobWorker
from stager.service.near import NearCache
from stager.settings import Settings
from stager.signals.holdings import Holdings, HoldingsTeller
from stager.signals.jobs import JobBook
from stager.signals.outbox import Outbox
from stager.wiring import build_cache
from stager.wiring.names import node_name
from stager.wiring.near import build_near, build_server
from stager.wiring.redis import redis_address

log = logging.getLogger(__name__)


class JobWorkerParts:
    """A worker that runs jobs, with all it needs, from ``with`` to its end.

    Args:
        settings: where everything is.
        name: of this process and of no other one.
        slots: jobs at once.

    Raises:
        CacheError: the cache, or the node's own one, can't be used.
        SettingsError: the address of Redis makes no sense, or the node's own cache can't be filled as set.
    """

    def __init__(self, settings: Settings, name: str, slots: int) -> None:
        address = redis_address(settings)
        node = node_name(settings)
        with ExitStack() as made:
            if not settings.node_share and not settings.node_cache_dir:
                raise SettingsError(
                    "setting node_share = false",
                    cause="jobs would have no place to run in",
                    remedy="set node_cache_dir, and node_sources = server",
                )
            near = _near(settings, node, made) if settings.node_cache_dir else None
            failed = made.enter_context(ExitStack())  # the worker closes these, once there is one
            book = JobBook(address)
            failed.callback(book.close)
            outbox = Outbox(address, name)
            failed.callback(outbox.close)
            away = near if near is not None and not settings.node_share else None
            self.worker = JobWorker(
                build_cache(settings) if away is None else away.cache,
                settings.state_dir / "nodes" / node,
                book,
                outbox,
                node=node,
                slots=slots,
                lease_seconds=settings.lease_seconds,
                grace_seconds=settings.job_grace_seconds,
                near=near.cache if near is not None and away is None else None,
                fill=near.fill if near is not None and settings.node_sources else None,
                server=None if away is None else build_server(settings, away.cache),
            )
            failed.pop_all()
            made.callback(self.worker.close)
            self._made = made.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()


def _near(settings: Settings, node: str, made: ExitStack) -> NearCache:
    """The node's own cache, which says what it holds; closed with `made`."""
    holdings = Holdings(redis_address(settings))
    made.callback(holdings.close)

    def told(digests: Sequence[str]) -> None:
        try:
            holdings.add(node, digests)
        except SignalsError as error:  # all of it is said again soon
            log.debug("%s", error)

    near = build_near(settings, made, told)
    near.start()
    teller = HoldingsTeller(Holdings(redis_address(settings)), node, lambda: _digests(near.cache))
    made.callback(teller.close)
    return near


def _digests(cache: FileCache) -> Iterator[str]:
    return (entry.object for entry in cache.entries())

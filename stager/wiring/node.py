"""The parts of a worker process that runs jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from stager.cache.store import FileCache
from stager.mapper.dispatch.node import JobWorker
from stager.settings import Settings
from stager.signals.holdings import Holdings, HoldingsTeller
from stager.signals.jobs import JobBook
from stager.signals.outbox import Outbox
from stager.wiring import build_cache
from stager.wiring.redis import node_name, redis_address


class JobWorkerParts:
    """A worker that runs jobs, with all it needs, from ``with`` to its end.

    Args:
        settings: where everything is.
        name: of this process and of no other one.
        slots: jobs at once.

    Raises:
        CacheError: the cache, or the node's own one, can't be used.
        SettingsError: the address of Redis makes no sense.
    """

    def __init__(self, settings: Settings, name: str, slots: int) -> None:
        address = redis_address(settings)
        node = node_name(settings)
        near = _near(settings)
        self._made = ExitStack()
        with ExitStack() as made:
            book = JobBook(address)
            made.callback(book.close)
            outbox = Outbox(address, name)
            made.callback(outbox.close)
            self.worker = JobWorker(
                build_cache(settings),
                settings.state_dir / "nodes" / node,
                book,
                outbox,
                node=node,
                slots=slots,
                lease_seconds=settings.lease_seconds,
                grace_seconds=settings.job_grace_seconds,
                near=near,
            )
            made.pop_all()
        self._made.callback(self.worker.close)
        if near is not None:
            teller = HoldingsTeller(Holdings(address), node, lambda: _digests(near))
            self._made.callback(teller.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()


def _near(settings: Settings) -> FileCache | None:
    return FileCache(Path(settings.node_cache_dir).expanduser()) if settings.node_cache_dir else None


def _digests(cache: FileCache) -> Iterator[str]:
    return (entry.object for entry in cache.entries())

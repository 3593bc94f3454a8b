"""The parts of a worker process."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

from stager.farm.worker import FetchWorker
from stager.settings import Settings
from stager.signals.fetches import FetchBook
from stager.signals.outbox import Outbox
from stager.signals.promises import SharedPromises
from stager.signals.vault import RedisStore
from stager.wiring import build_cache, build_fetcher
from stager.wiring.credentials import build_wallet
from stager.wiring.redis import redis_address


class FetchWorkerParts:
    """A worker that fetches, with all it needs, from ``with`` to its end.

    Args:
        settings: where everything is.
        name: of this process and of no other one.

    Raises:
        CacheError: the cache can't be used.
        SettingsError: the address of Redis makes no sense.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        address = redis_address(settings)
        with ExitStack() as made:
            self._promises = SharedPromises(address)
            made.callback(self._promises.close)
            self._vault = RedisStore(address)
            made.callback(self._vault.close)
            fetcher = build_fetcher(
                settings,
                build_cache(settings),
                promises=self._promises,
                wallet=build_wallet(settings, self._vault),
                alone=False,
            )
            made.callback(fetcher.close)
            book = FetchBook(address, lease_seconds=settings.lease_seconds)
            made.callback(book.close)
            outbox = Outbox(address, name)
            made.callback(outbox.close)
            self.worker = FetchWorker(fetcher, book, outbox, name=name, lease_seconds=settings.lease_seconds)
            made.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.close()
        self._promises.close()
        self._vault.close()

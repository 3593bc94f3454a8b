"""Both drivers of a transfer, behind the interface of the one that blocks: each scenario runs on either."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from itertools import chain, repeat
from typing import Any, Protocol

from stager.cache.store import FileCache
from stager.credentials.wallet import Wallet
from stager.farm.side_threads import SideThreads
from stager.model.fetches import FetchOrder, FetchResult
from stager.transfer.account import ProgressReport
from stager.transfer.aio import AioTransport
from stager.transfer.aio_fetcher import AioFetcher
from stager.transfer.fetcher import Fetcher, never
from stager.transfer.http import HttpTransport
from stager.transfer.options import TransferOptions
from stager.transfer.transport import Transport
from tests.support.reach import LOOPBACK

LOOK_SECONDS = 0.01


class AnyFetcher(Protocol):
    """What a scenario needs."""

    cache: FileCache

    def fetch(
        self,
        order: FetchOrder,
        *,
        progress: ProgressReport | None = None,
        cancelled: Callable[[], bool] = ...,
    ) -> FetchResult: ...

    def close(self) -> None: ...


class LoopFetcher:
    """An event loop in a thread; whoever fetches waits for it."""

    def __init__(
        self,
        cache: FileCache,
        *,
        options: TransferOptions | None = None,
        threads: int = 16,
        transport: type[AioTransport] = AioTransport,
        others: Transport | None = None,
        wallet: Wallet | None = None,
        **wanted: Any,
    ) -> None:
        self.cache = cache
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

        async def make() -> AioFetcher:
            reads = transport(**({"reach": LOOPBACK} | wanted))
            self._off = SideThreads(threads, "off")
            return AioFetcher(cache, reads, self._off.do, options=options, others=others, wallet=wallet)

        self._fetcher = asyncio.run_coroutine_threadsafe(make(), self.loop).result()

    def fetch(
        self,
        order: FetchOrder,
        *,
        progress: ProgressReport | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> FetchResult:
        return self.begin(order, progress=progress, cancelled=cancelled).result()

    def begin(
        self,
        order: FetchOrder,
        *,
        progress: ProgressReport | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> Begun:
        """The same, to be waited for later."""
        future: Future[FetchResult] = Future()

        def ended(how: FetchResult | BaseException) -> None:
            if isinstance(how, BaseException):
                future.set_exception(how)
            else:
                future.set_result(how)

        attempt = self._fetcher.attempt(order, progress=progress, cancelled=cancelled, ended=ended)
        following = chain([attempt], repeat(None))
        asyncio.run_coroutine_threadsafe(self._fetcher.work(following.__next__), self.loop)
        return Begun(future, cancelled, lambda: self.loop.call_soon_threadsafe(attempt.wake))

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._fetcher.close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self._off.close()
        self.loop.close()


class Begun:
    """A try that is under way in the loop."""

    def __init__(
        self, future: Future[FetchResult], cancelled: Callable[[], bool], wake: Callable[[], object]
    ) -> None:
        self._future = future
        self._cancelled = cancelled
        self._wake = wake

    def result(self) -> FetchResult:
        """What it delivers; `cancelled` is watched meanwhile."""
        if self._cancelled is not never:
            while not self._cancelled() and not wait_for([self._future], LOOK_SECONDS).done:
                pass
            self._wake()
        return self._future.result()


def on_threads(
    cache: FileCache,
    *,
    options: TransferOptions | None = None,
    others: Transport | None = None,
    wallet: Wallet | None = None,
    **wanted: Any,
) -> AnyFetcher:
    """The requests driver, unless `others` are to be read."""
    reads = others or HttpTransport(**({"reach": LOOPBACK} | wanted))
    return Fetcher(cache, reads, options=options, wallet=wallet)


Driver = Callable[..., AnyFetcher]
DRIVERS: dict[str, Driver] = {"requests": on_threads, "asyncio": LoopFetcher}

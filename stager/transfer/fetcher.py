"""Fetches: a hit in the cache costs a look, everything else a try at the origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stager.cache.at_hand import at_hand
from stager.cache.space import LocalPromises, Space
from stager.cache.store import FileCache
from stager.clock import Clock, SystemClock
from stager.model.fetches import FetchOrder, FetchResult
from stager.transfer.account import ProgressReport
from stager.transfer.blocking import run
from stager.transfer.buffers import BufferPool
from stager.transfer.means import Means
from stager.transfer.options import TransferOptions
from stager.transfer.plan import TransferPlan
from stager.transfer.transport import Transport
from stager.transfer.tries import Try

if TYPE_CHECKING:
    from stager.credentials.wallet import Wallet


def never() -> bool:
    """Not cancelled."""
    return False


def nothing() -> None:
    """Nobody waits for the bytes to be here."""


class Fetcher:
    """Makes tries; one is used by many threads at once.

    Args:
        cache: where the bytes go.
        transport: how origins are read; closed with the fetcher.
        options: the site's choices.
        clock: wall clock for freshness, monotonic clock for speed.
        space: the room of the cache; by default all of it, promised to none but these tries.
        wallet: the credentials; None: there are none.
    """

    def __init__(
        self,
        cache: FileCache,
        transport: Transport,
        *,
        options: TransferOptions | None = None,
        clock: Clock | None = None,
        space: Space | None = None,
        wallet: Wallet | None = None,
    ) -> None:
        self.cache = cache
        self._announced: dict[str, TransferPlan] = {}
        """For URLs that were asked for already, as the cache has nothing of them."""
        self._transport = transport
        self._means = Means(
            cache,
            options or TransferOptions(),
            clock or SystemClock(),
            BufferPool(),
            space or Space(cache.root, LocalPromises()),
            wallet,
        )

    def fetch(
        self,
        order: FetchOrder,
        *,
        progress: ProgressReport | None = None,
        cancelled: Callable[[], bool] = never,
        received: Callable[[], None] = nothing,
    ) -> FetchResult:
        """Bring what `order` asks for into the cache, or find that it is there.

        Args:
            order: one try.
            progress: told how far the body is, at most ten times per second.
            cancelled: asked several times per second whether to give up.
            received: called when the bytes are here, before they are stored: time to `announce` the next.

        Raises:
            FetchError: the origin did not deliver. A transient one may be tried again (not before
                ``details["retry_after"]`` seconds, if given), and goes on where this try ended;
                ``details["progressed"]`` is True when it brought new bytes.
            CancelledError: within a second of `cancelled` turning True; the bytes so far are kept.
            CacheError: the cache could not be written; `CacheGoneError`: it is not there.
        """
        cache, clock, request = self.cache, self._means.clock, order.request
        started = clock.monotonic()
        plan = self._announced.pop(request.key, None)
        # It looks whether the cache is there, before an origin is asked for what can't be kept.
        entry = None if plan is not None else at_hand(cache, request, now=clock.time)
        hit = self._means.hit(request, entry, started)
        if hit is not None:
            return hit
        if plan is None:
            self._means.absences.check(request, clock.time())
        attempt = Try(self._means, order, entry, started, progress, cancelled, received, plan)
        try:
            return run(attempt.steps(), self._transport, clock)
        except BaseException:
            if plan is not None:
                self._transport.withdraw(request.url)  # had it failed before it came to that
            raise

    def announce(self, order: FetchOrder) -> None:
        """`order` is fetched next: ask its origin already, if a connection is idle and the cache has nothing of it."""
        request = order.request
        if request.mirrors or self._means.access(request) is not None:
            return
        if at_hand(self.cache, request, now=self._means.clock.time) is None:
            plan = self._announced[request.key] = TransferPlan(request, self._means.options)
            self._transport.announce(plan.next_request())

    def close(self) -> None:
        """Close idle connections and free the buffers."""
        self._transport.close()
        self._means.buffers.clear()

"""Fetches in an event loop: the same tries as on threads, with other waits.

The loop's thread only waits for origins. What a try does in between - hashing, writing, publishing - it does
in a thread of `off`, so that a slow disk delays nobody but the file that is on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from stager.cache.at_hand import at_hand
from stager.cache.space import LocalPromises, Space
from stager.cache.store import FileCache
from stager.clock import Clock, SystemClock
from stager.model.fetches import FetchOrder, FetchResult
from stager.model.urls import WEB
from stager.transfer.account import ProgressReport
from stager.transfer.aio import AioTransport
from stager.transfer.aio_answer import AioAnswer
from stager.transfer.asks import Ask, Beside, Fill, Open, Rest, Steps
from stager.transfer.blocking import do
from stager.transfer.buffers import BufferPool
from stager.transfer.means import Means
from stager.transfer.options import TransferOptions
from stager.transfer.patience import Patience
from stager.transfer.transport import Transport
from stager.transfer.tries import Try

if TYPE_CHECKING:
    from stager.credentials.wallet import Wallet

T = TypeVar("T")

Outcome = Callable[[], Ask]
"""Gives a try what it asked for."""
Going = tuple["AioAttempt", Ask]
"""A try, and what it asks."""

LOOKS = 4
"""Looks at the time within the shortest of the limits that a silent origin can exceed."""


def _nothing(*_: object) -> None:
    """Nobody waits for it."""


class Off(Protocol):
    """Does something in a thread that may wait, for an event loop in whose thread it is called."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]:
        """What `work` returns or raises."""
        ...


class AioFetcher:
    """Makes tries in one event loop.

    Args:
        cache: where the bytes go.
        transport: how origins are read; closed with the fetcher.
        others: reads what is not http or https, in threads of `off`; closed with the fetcher.
        off: does what may take a while, for as many at once as there are tries, or they wait for each other.
        options: the site's choices.
        clock: wall clock for freshness, monotonic clock for speed.
        space: the room of the cache; by default all of it, promised to none but these tries.
        wallet: the credentials; None: there are none.
    """

    def __init__(
        self,
        cache: FileCache,
        transport: AioTransport,
        off: Off,
        *,
        options: TransferOptions | None = None,
        clock: Clock | None = None,
        space: Space | None = None,
        others: Transport | None = None,
        wallet: Wallet | None = None,
    ) -> None:
        self._transport = transport
        self._others = others
        self._off = off
        self._means = Means(
            cache,
            options or TransferOptions(),
            clock or SystemClock(),
            BufferPool(),
            space or Space(cache.root, LocalPromises()),
            wallet,
        )

    def attempt(
        self,
        order: FetchOrder,
        *,
        progress: ProgressReport | None,
        cancelled: Callable[[], bool],
        ended: Callable[[FetchResult | BaseException], object],
    ) -> AioAttempt:
        """One try, not yet begun; see `Fetcher.fetch`, and for the rest `work`. `ended` is told what that returns or raises."""
        return AioAttempt(
            self._means, self._transport, self._others, self._off, order, progress, cancelled, ended
        )

    async def work(self, following: Callable[[], AioAttempt | None]) -> None:
        """Make tries one after another, as long as `following` gives one.

        It, and what tries tell, are called in a thread that may wait: the one that stores a file begins the next try.
        """
        step = partial(_begin_next, following)
        while (going := await self._off(step)) is not None:
            attempt, ask = going
            step = partial(_go_on, attempt, await attempt.serve(ask), following)

    async def close(self) -> None:
        """Close idle connections and free the buffers."""
        await self._transport.close()
        if self._others is not None:
            self._others.close()
        self._means.buffers.clear()


class AioAttempt:
    """One try in the loop; see `AioFetcher.attempt`."""

    def __init__(
        self,
        means: Means,
        transport: AioTransport,
        others: Transport | None,
        off: Off,
        order: FetchOrder,
        progress: ProgressReport | None,
        cancelled: Callable[[], bool],
        ended: Callable[[FetchResult | BaseException], object],
    ) -> None:
        self._means = means
        self._transport = transport
        self._others = others
        self._off = off
        self._order = order
        self._progress = progress
        self._cancelled = cancelled
        self._ended = ended
        self._patience = Patience()
        options = means.options
        self._silence = options.read_timeout_seconds
        limits = options.read_timeout_seconds, options.low_speed_seconds, options.max_fetch_seconds
        self._look = min(limits) / LOOKS
        self._beside: dict[asyncio.Task[None], Patience] = {}
        self._steps = self._all_steps()

    def wake(self) -> None:
        """Look at `cancelled`, which has turned True, wherever it waits; in the loop's thread."""
        self._patience.urge()

    def begin(self) -> Ask | None:
        """See `go_on`."""
        return self.go_on(partial(next, self._steps))

    def go_on(self, outcome: Outcome) -> Ask | None:
        """Let the try go on to what it asks next; None: it has ended, and said so. In a thread that may wait."""
        try:
            return outcome()
        except StopIteration as end:
            self._ended(end.value)
        except BaseException as error:  # noqa: BLE001 - told to who knows what it means
            self._ended(error)
        return None

    async def serve(self, ask: Ask) -> Outcome:
        """Do what it asks for; what lets it go on."""
        if self._cancelled():
            self.wake()
        try:
            return partial(self._steps.send, await self._do(ask))
        except BaseException as error:  # noqa: BLE001 - the try knows what it means
            return partial(self._steps.throw, error)

    def _all_steps(self) -> Steps:
        means, order = self._means, self._order
        started = means.clock.monotonic()
        means.cache.check()  # before an origin is asked for what can't be kept
        entry = at_hand(means.cache, order.request, now=means.clock.time)
        hit = means.hit(order.request, entry, started)
        if hit is not None:
            return hit
        means.absences.check(order.request, means.clock.time())
        attempt = Try(means, order, entry, started, self._progress, self._cancelled, _nothing)
        return (yield from attempt.steps())

    async def _do(self, ask: Ask) -> object:
        if isinstance(ask, Beside):
            return await self._begin(ask)
        if isinstance(ask, Rest):
            return await self._have_ended(ask)
        return await self._wait(ask, self._patience)

    async def _wait(self, ask: Open | Fill, patience: Patience, *, seated: bool = False) -> object:
        of_web = ask.request.url.scheme in WEB if isinstance(ask, Open) else isinstance(ask.answer, AioAnswer)
        if self._others is not None and not of_web:
            return await self._off(partial(do, ask, self._others, self._means.clock))
        if isinstance(ask, Open):
            open_ = partial(self._transport.open, seated=seated)
            return await open_(ask.request, ask.pulse, patience, self._silence)
        answer = cast("AioAnswer", ask.answer)  # it came from our transport
        return await answer.fill(ask.room, patience, self._look)

    async def _begin(self, ask: Beside) -> bool:
        """Do these steps in a task of their own, if the origin may have one more connection."""
        if self._others is not None and ask.url.scheme not in WEB:
            ask.steps.close()
            return False
        if not await self._transport.spare(ask.url.origin):
            ask.steps.close()
            return False
        patience = Patience()
        task = asyncio.get_running_loop().create_task(self._work(ask, patience))
        self._beside[task] = patience
        return True

    async def _work(self, ask: Beside, patience: Patience) -> None:
        outcome: Callable[[], Open | Fill] = partial(next, ask.steps)
        try:
            while (following := await self._off(partial(_side_step, outcome))) is not None:
                try:
                    outcome = partial(ask.steps.send, await self._wait(following, patience, seated=True))
                except BaseException as error:  # noqa: BLE001 - the steps know what it means
                    outcome = partial(ask.steps.throw, error)
        finally:
            self._transport.leave(ask.url.origin)

    async def _have_ended(self, ask: Rest) -> bool:
        if ask.stop:
            for patience in self._beside.values():
                patience.urge()
        if self._beside:
            done, _ = await asyncio.wait(self._beside, timeout=ask.seconds)
            for task in done:
                del self._beside[task]
                task.result()
        return not self._beside


def _side_step(outcome: Callable[[], Open | Fill]) -> Open | Fill | None:
    """Let them go on to what they ask next; None: that was all."""
    try:
        return outcome()
    except StopIteration:
        return None


def _begin_next(following: Callable[[], AioAttempt | None]) -> Going | None:
    """Begin tries until one has something to ask; None: there are no more."""
    while (attempt := following()) is not None:
        ask = attempt.begin()
        if ask is not None:
            return attempt, ask
    return None


def _go_on(attempt: AioAttempt, outcome: Outcome, following: Callable[[], AioAttempt | None]) -> Going | None:
    """Let the try go on; when it has ended, begin the next."""
    ask = attempt.go_on(outcome)
    return _begin_next(following) if ask is None else (attempt, ask)

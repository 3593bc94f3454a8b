"""How long a coroutine waits: until something comes, a time has passed, or somebody wants it to look up."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Patience:
    """The wait of one coroutine, which may be cut short; of the event loop's thread alone.

    While `urged` is True every wait ends at once. Use as a context manager around what can be waited for in one way
    only; it raises TimeoutError when the wait is over::

        async with patience.of(10.0):
            await something
    """

    def __init__(self) -> None:
        self.urged = False
        self._timeout: asyncio.Timeout | None = None
        self._seconds: float | None = None
        self._future: asyncio.Future[None] | None = None

    async def wait(self, future: asyncio.Future[None], seconds: float) -> None:
        """Until somebody sets the result of `future`; at most so long. Ten times cheaper than a timeout."""
        if self.urged:
            return
        self._future = future
        timer = future.get_loop().call_later(seconds, wake, future)
        try:
            await future
        finally:
            timer.cancel()
            self._future = None

    def of(self, seconds: float | None) -> Self:
        """Wait at most so long; None: as long as it takes."""
        self._seconds = seconds
        return self

    def urge(self) -> None:
        """End the present wait and those that follow."""
        self.urged = True
        wake(self._future)
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(0.0)

    async def __aenter__(self) -> None:
        if self.urged:
            raise TimeoutError
        self._timeout = asyncio.timeout(self._seconds)
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        timeout, self._timeout = self._timeout, None
        assert timeout is not None
        await timeout.__aexit__(kind, error, trace)


def wake(future: asyncio.Future[None] | None) -> None:
    """Let who waits for `future` go on; if nobody does, nothing."""
    if future is not None and not future.done():
        future.set_result(None)

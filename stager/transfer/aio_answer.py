"""An answer whose body is read in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stager.model.urls import Url
from stager.transfer.aio_line import Line
from stager.transfer.asks import Filled
from stager.transfer.exchange import malformed
from stager.transfer.fields import Headers
from stager.transfer.patience import Patience
from stager.transfer.wire import End, Head, MalformedError


class AioAnswer:
    """See `Answer`.

    Args:
        head: of it.
        line: its body is read from there.
        url: what was asked for.
        give_back: takes the line at the end, in the loop's thread; told whether the body was touched.

    A body that came with its head is taken from the line at once, which is given back then.
    """

    def __init__(self, head: Head, line: Line, url: Url, give_back: Callable[[bool], None]) -> None:
        self.status = head.status
        self.headers: Headers = head.headers
        self.end: End | None = None
        self._loop = asyncio.get_running_loop()
        self._line = line
        self._body = line.body
        self._url = url
        self._give_back: Callable[[bool], None] | None = give_back
        self._touched = False
        self._whole = line.take()
        if self._body.done:
            self._give_back = None
            give_back(False)
            if not self._whole:
                self.end = End.COMPLETE

    @property
    def trailer(self) -> Headers:
        """See `Answer.trailer`."""
        return self._body.trailer

    def take(self) -> bytes | None:
        """See `Answer.take`; may be called in any thread, while no `fill` is under way."""
        whole, self._whole = self._whole, None
        if not whole:
            return None
        self.end = End.COMPLETE
        return whole

    async def fill(self, room: memoryview, patience: Patience, silence: float) -> Filled:
        """See `Line.fill`.

        Raises:
            FetchError: the body's framing is broken. A connection that breaks is an `end`.
        """
        self._touched = True
        whole = self._whole
        if whole:
            count = min(len(whole), len(room))
            room[:count] = whole[:count]
            self._whole = whole[count:]
            if not self._whole:
                self.end = End.COMPLETE
            return Filled(count, 0.0)
        try:
            filled, self.end = await self._line.fill(room, patience, silence)
        except MalformedError as error:
            raise malformed(self._url, error) from None
        return filled

    def close(self) -> None:
        """See `Answer.close`; may be called in any thread, while no `fill` is under way."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            self._loop.call_soon_threadsafe(give_back, self._touched)

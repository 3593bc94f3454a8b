"""A connection in an event loop: one request after another, each answer read as `wire` reads it.

The loop reads into the memory of who waits, and only while somebody does: a slow disk stops the origin, and
memory stays bounded. An idle connection is read too, which tells when it ends.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from contextlib import suppress
from typing import Any

from stager.transfer.asks import Filled
from stager.transfer.exchange import StaleError
from stager.transfer.heads import HEAD_BUFFER_BYTES, HeadTooLargeError, find_head
from stager.transfer.patience import Patience, wake
from stager.transfer.wire import Body, End, Head, MalformedError, OpenBody, SizedBody, body_of

GATHER_SECONDS = 0.25
"""Longest that received bytes wait for more before they are written: many slow transfers share one thread."""

_NO_BODY = SizedBody(0)
_SCRAP = memoryview(bytearray(256))
"""Where comes what nobody reads."""


class Line:
    """See the module; `open_line` makes one. All in the loop's thread.

    Args:
        max_head_bytes: longest head of an answer.

    Attributes:
        answers: answers that were read on it.
        ended: whether the other side has closed it, or it broke.
        lost: done when nothing is left of it.
    """

    def __init__(self, max_head_bytes: int) -> None:
        self.answers = 0
        self.ended = False
        self.buffer = bytearray(HEAD_BUFFER_BYTES)
        self.filled = self.left = 0
        self._max_head_bytes = max_head_bytes
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._transport: Any = None
        self._tls: ssl.SSLObject | None = None
        self._watch = select.poll()
        self._error: Exception | None = None  # what ended it; or what it is that came
        self._stray = False  # something came that nobody asked for
        self._reads = True
        self._future: asyncio.Future[None] | None = None
        self._found: tuple[Head, memoryview] | None = None
        self._awaits_head = False
        self._rest = memoryview(b"")  # of the body, beyond the head
        self._body: Body = _NO_BODY
        self._room: memoryview | None = None
        self._got = 0
        self._since = 0.0

    # -- one request, its answer ------------------------------------------------------------------

    async def ask(self, request: bytes, patience: Patience, seconds: float) -> Head | None:
        """Send `request` and read the head of the answer; None: it did not come in time, or `patience` was urged.

        Raises:
            StaleError: the connection had ended before.
            MalformedError, HeadTooLargeError: it is no head.
            OSError: the connection broke.
        """
        self.filled, self.left = 0, self._max_head_bytes
        self._awaits_head = True
        self._future = self._loop.create_future()
        self._transport.write(request)
        self._read_on()
        if not self.ended:
            await patience.wait(self._future, seconds)
        self._awaits_head = False
        found, self._found = self._found, None
        if found is not None:
            head, self._rest = found
            self._body = body_of(head)
            return head
        if isinstance(self._error, MalformedError | HeadTooLargeError):
            raise self._error
        if not self.ended:
            return None
        if self.answers and not self.filled:
            raise StaleError
        raise self._error or ConnectionError("the origin closed the connection without an answer")

    @property
    def body(self) -> Body:
        """Of the present answer; see `wire`."""
        return self._body

    def take(self) -> bytes | None:
        """The whole body, if its length is known and it came with the head, with nothing beyond it."""
        rest, body = self._rest, self._body
        if body.left != len(rest):
            return None
        body.decode(rest, len(rest))
        whole, self._rest = bytes(rest), memoryview(b"")  # the next answer will be read into the same memory
        return whole

    async def fill(self, room: memoryview, patience: Patience, silence: float) -> tuple[Filled, End | None]:
        """Read the body into `room`: until it is full, the body ends, or it is time to do something else.

        That is after `silence` seconds without a byte, when `patience` is urged, and soon after bytes came.

        Returns:
            What came, and how the body has ended, if it has.

        Raises:
            MalformedError: the body's framing is broken.
        """
        body = self._body
        if body.done:
            return Filled(0, 0.0), End.COMPLETE
        self._room = room if body.left is None else room[: body.left]
        self._got = 0
        self._since = began = self._loop.time()
        self._put(self._rest)
        await self._wait(patience, min(silence, GATHER_SECONDS))
        if not self._got and silence > GATHER_SECONDS:
            await self._wait(patience, silence - GATHER_SECONDS)
        self._room = None
        self._read_no_more()
        if isinstance(self._error, MalformedError):
            raise self._error
        filled = Filled(self._got, self._loop.time() - began)
        return filled, End.COMPLETE if self._body.done else self._how_it_ended()

    async def _wait(self, patience: Patience, seconds: float) -> None:
        if not self.ended and not self._has_enough:
            self._future = self._loop.create_future()
            self._read_on()
            await patience.wait(self._future, seconds)

    @property
    def _has_enough(self) -> bool:
        """Whether nothing more can be taken."""
        full = self._room is None or self._got == len(self._room)
        return full or self._body.done or isinstance(self._error, MalformedError)

    def _how_it_ended(self) -> End | None:
        """How the body did, if the connection has, and all that had come is taken."""
        if not self.ended or self._rest:
            return None
        if self._error is not None:
            return End.BROKEN
        if isinstance(self._body, OpenBody) and self._tls is not None and not _said_goodbye(self._tls):
            return End.BROKEN
        return self._body.at_close()

    # -- its life ---------------------------------------------------------------------------------

    @property
    def is_clean(self) -> bool:
        """Whether another request may follow, as far as is known."""
        clean = self._body.done and not self._body.excess and not self._rest
        return clean and not self.ended and not self._stray and self._error is None

    @property
    def is_idle(self) -> bool:
        """Whether another request may follow now: nothing has come that the loop has not seen yet."""
        return self.is_clean and not self._watch.poll(0)

    def rest(self) -> bool:
        """No request is under way; tell when the connection ends.

        Returns:
            Whether all that has come was seen; else it is in the loop's next round.
        """
        self.answers += 1
        seen = self._reads
        self._read_on()
        return seen

    def close(self) -> None:
        """End it now."""
        self.ended = True
        self._transport.abort()

    # -- called by the loop ------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """It is there."""
        self._transport = transport
        self._tls = transport.get_extra_info("ssl_object")
        self._watch.register(transport.get_extra_info("socket"), select.POLLIN)

    def eof_received(self) -> None:
        """The other side has closed it in order."""
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed, or broke."""
        self._end(error)
        wake(self.lost)

    def pause_writing(self) -> None:
        """Requests are small."""

    def resume_writing(self) -> None:
        """As above."""

    def _end(self, error: Exception | None) -> None:
        if not self.ended:
            self.ended = True
            self._error = self._error or error
            wake(self._future)

    # -- what comes --------------------------------------------------------------------------------

    def _space(self) -> memoryview:
        """Where the next bytes go."""
        if self._room is not None:
            return self._room[self._got :]
        return memoryview(self.buffer)[self.filled :] if self._awaits_head else _SCRAP

    def _took(self, count: int) -> None:
        """So many bytes are there."""
        try:
            if self._room is not None:
                self._took_body(self._room, count)
            elif self._awaits_head:
                self.filled += count
                self._took_head()
            else:
                self._stray = True
                self.close()
        except (MalformedError, HeadTooLargeError) as error:
            self._error, self._awaits_head = error, False
            wake(self._future)

    def _took_head(self) -> None:
        self._found = find_head(self)
        if self._found is not None:
            self._awaits_head = False
            head, rest = self._found
            if head.length != len(rest):
                self._read_no_more()  # until somebody wants the body; else the connection is idle soon
            wake(self._future)

    def _took_body(self, room: memoryview, count: int) -> None:
        self._got += self._body.decode(room[self._got :], count)
        if self._body.done or self._got == len(room):
            self._read_no_more()
            wake(self._future)
        elif self._got and self._loop.time() - self._since >= GATHER_SECONDS:
            wake(self._future)

    def _put(self, data: memoryview) -> None:
        """Take what came already, as far as somebody wants it."""
        self._rest = data
        while self._rest and self._room is not None and not self._has_enough:
            space = self._space()
            count = min(len(self._rest), len(space))
            space[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            self._took(count)

    def _read_on(self) -> None:
        if not self._reads and not self.ended:
            self._reads = True
            self._transport.resume_reading()

    def _read_no_more(self) -> None:
        if self._reads and not self.ended:
            self._reads = False
            self._transport.pause_reading()


class PlainLine(Line, asyncio.BufferedProtocol):
    """Without TLS: the system copies into the memory of who waits."""

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's interface
        """Called by the loop."""
        return self._space()

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop."""
        self._took(nbytes)


class TlsLine(Line, asyncio.Protocol):
    """With TLS, of which asyncio hands out all that is decoded; what nobody wants yet is kept, some hundred KB at most."""

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._room is not None:
            self._put(memoryview(bytes(self._rest) + data) if self._rest else memoryview(data))
            if self._rest:
                self._read_no_more()
            return
        taken = 0
        while taken < len(data) and self._awaits_head:
            space = self._space()
            count = min(len(space), len(data) - taken)
            space[:count] = data[taken : taken + count]
            taken += count
            self._took(count)
        if taken == len(data):
            return
        if self._found is None:
            self._took(len(data) - taken)
            return
        head, rest = self._found  # more of the body than there was space for
        self._found = head, memoryview(bytes(rest) + data[taken:])
        self._read_no_more()


def _said_goodbye(tls: ssl.SSLObject) -> bool:
    """Whether the other side ended TLS in order (close_notify); asked when the connection has ended."""
    with suppress(ssl.SSLZeroReturnError):
        try:
            return tls.read(1) == b""
        except ssl.SSLWantReadError:
            return False
    return True

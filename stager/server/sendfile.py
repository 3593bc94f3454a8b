"""Files that the kernel sends: the ASGI extension `http.response.zerocopysend`, for connections without TLS.

The event loop only waits for readers. What may wait for a disk or a file server is done by a few threads, each
of which goes on with one reader for a moment, as long as it takes what it is given. So a fast reader gets what
the kernel can give, and hundreds of slow ones cost a file descriptor each, and no memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import time
from typing import Any

import h11
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from stager.errors import CacheIOError

log = logging.getLogger(__name__)

EXTENSION = "http.response.zerocopysend"
THREADS = 16
"""Files that are read at once."""
TURN_SECONDS = 0.05
"""A thread goes on with one reader for so long."""
PATIENCE_MILLISECONDS = 5
"""A reader that takes nothing for so long is waited for elsewhere."""
AT_ONCE_BYTES = 4 << 20
"""Per call, so that a turn has an end even if a reader takes all at once."""
STALL_SECONDS = 300.0
"""A reader that takes nothing for so long is cut off: it can go on with `Range`."""
_limiter: RunVar[CapacityLimiter] = RunVar("files that are read at once")


class _Counted:
    """Stands for so many bytes in the framing, which counts them; they go another way."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


class SendfileProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, with the extension."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._inner = self.app
        self.app = self._offering
        self._waiting: asyncio.Future[None] | None = None

    async def _offering(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["scheme"] != "http":
            await self._inner(scope, receive, send)
            return
        scope.setdefault("extensions", {})[EXTENSION] = {}

        async def sending(message: Message) -> None:
            if message["type"] == EXTENSION:
                await self._send_file(message)
            else:
                await send(message)

        await self._inner(scope, receive, sending)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._wake()

    @property
    def _is_gone(self) -> bool:
        return self.cycle.disconnected or self.transport.is_closing()

    async def _send_file(self, message: Message) -> None:
        file, start, count = message["file"], message["offset"], message["count"]
        if self._is_gone:
            return
        self.conn.send_with_data_passthrough(h11.Data(data=_Counted(count)))  # type: ignore[arg-type]
        self.transport.set_write_buffer_limits(high=0)  # so that draining means that all is with the kernel
        socket = os.dup(self.transport.get_extra_info("socket").fileno())  # the transport waits for its own
        try:
            await self.flow.drain()
            await self._feed(socket, file.fileno(), start, start + count)
        except ConnectionError:
            self.transport.abort()
        except TimeoutError:
            log.info("a reader took nothing for %g s: cut off", STALL_SECONDS)
            self.transport.abort()
        finally:
            os.close(socket)
            self.transport.set_write_buffer_limits()

    async def _feed(self, socket: int, file: int, at: int, stop: int) -> None:
        while not self._is_gone:
            at = await to_thread.run_sync(_turn, socket, file, at, stop, limiter=_threads())
            if at == stop:
                return
            await self._writable(socket)

    async def _writable(self, socket: int) -> None:
        """Wait until the reader takes more, or is gone.

        Raises:
            TimeoutError: neither.
        """
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        loop.add_writer(socket, self._wake)
        try:
            if not self._is_gone:
                await asyncio.wait_for(self._waiting, STALL_SECONDS)
        finally:
            loop.remove_writer(socket)
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _turn(socket: int, file: int, at: int, stop: int) -> int:
    """Send from byte `at` of the file on, as long as the reader takes it and the turn lasts; where it came to."""
    ready = select.poll()
    ready.register(socket, select.POLLOUT)
    until = time.monotonic() + TURN_SECONDS
    while at < stop and time.monotonic() < until:
        try:
            sent = os.sendfile(socket, file, at, min(stop - at, AT_ONCE_BYTES))
        except BlockingIOError:
            if not ready.poll(PATIENCE_MILLISECONDS):
                break
            continue
        if not sent:
            raise CacheIOError(f"a file ends at byte {at}", cause="it was longer before")
        at += sent
    return at


def _threads() -> CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        made = CapacityLimiter(THREADS)
        _limiter.set(made)
        return made

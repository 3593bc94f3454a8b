"""The asyncio driver: one event loop reads all origins, each connection as `wire` reads it.

Nothing of the environment is used (no proxies, no netrc), no redirect is followed and nothing is
decoded: what to do is the plan's business.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial

from stager.transfer.aio_answer import AioAnswer
from stager.transfer.aio_connect import Connector
from stager.transfer.aio_line import Line
from stager.transfer.classify import head_too_large, os_cause
from stager.transfer.connecting import connect_error
from stager.transfer.decisions import ClientCertificate, Request
from stager.transfer.exchange import (
    DRAIN_BYTES,
    StaleError,
    broken_connection,
    encoded,
    malformed,
    no_connection,
    pool_name,
)
from stager.transfer.heads import HeadTooLargeError
from stager.transfer.patience import Patience
from stager.transfer.reach import Reach, RefusedError
from stager.transfer.transport import Pulse
from stager.transfer.wire import MAX_HEAD_BYTES, Head, MalformedError

KEEPALIVE_SECONDS = 60.0
"""How long an idle connection is kept; servers end them after 5 to 75."""
DRAIN_SECONDS = 0.25
"""Longest wait for the rest of a small body that nobody wants."""
CLOSE_SECONDS = 1.0
"""Longest wait for connections to be closed, which takes the loop two rounds."""


class AioTransport:
    """Sends requests over http and https from one event loop, in which it has to be made and closed.

    Args:
        connections: answers of one origin at once.
        connect_timeout_seconds: for name resolution, connection and TLS handshake together.
        ca_bundle: file or directory with the certificates to trust; empty: the usual ones.
        reach: where it may connect to; by default whatever is public.
        max_head_bytes: longest head of an answer.
    """

    def __init__(
        self,
        *,
        connections: int = 6,
        connect_timeout_seconds: float = 10.0,
        ca_bundle: str = "",
        reach: Reach | None = None,
        max_head_bytes: int = MAX_HEAD_BYTES,
    ) -> None:
        self._connect_timeout = connect_timeout_seconds
        self._ca_bundle = ca_bundle
        self._max_head_bytes = max_head_bytes
        self._connector = Connector(reach or Reach(), max_head_bytes)
        self._contexts: dict[str, ssl.SSLContext] = {}  # by the name of the client certificate
        self._seats: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(connections))
        self._idle: defaultdict[str, deque[tuple[float, Line]]] = defaultdict(deque)  # since when; by pool
        self._lines: set[Line] = set()
        self._draining: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._tidying: asyncio.TimerHandle | None = None

    async def spare(self, origin: str) -> bool:
        """Take a seat at that origin if it may have one more connection now; `leave` must follow."""
        seats = self._seats[origin]
        return not seats.locked() and await seats.acquire()

    def leave(self, origin: str) -> None:
        """Give the seat back."""
        self._seats[origin].release()

    async def open(
        self, request: Request, pulse: Pulse, patience: Patience, silence: float, *, seated: bool = False
    ) -> AioAnswer:
        """Wait for a seat at the origin, send `request` and read the head of the answer.

        Args:
            request: what to send.
            pulse: told of the silence when that ends the wait, or of none when `patience` was urged; it raises.
            patience: of the try.
            silence: longest wait for the answer once the request is sent, seconds.
            seated: there is a seat; see `spare`.

        Raises:
            FetchError: no connection, no answer, or no HTTP; or what `pulse` raised.
        """
        seats = self._seats[request.url.origin]
        if not seated:
            try:
                if seats.locked():
                    async with patience.of(None):
                        await seats.acquire()
                else:
                    await seats.acquire()  # at once
            except TimeoutError:
                pulse(0.0)
                raise
        leave = _nothing if seated else seats.release
        try:
            line, head = await self._ask(request, pulse, patience, silence)
        except BaseException:
            leave()
            raise
        return AioAnswer(
            head, line, request.url, partial(self._give_back, pool_name(request), line, head, leave)
        )

    async def close(self) -> None:
        """Close all connections."""
        for task in list(self._draining):
            await task
        if self._tidying is not None:
            self._tidying.cancel()
        for line in self._lines:
            line.close()
        if self._lines:
            await asyncio.wait([line.lost for line in self._lines], timeout=CLOSE_SECONDS)
        self._connector.close()

    async def _ask(
        self, request: Request, pulse: Pulse, patience: Patience, silence: float
    ) -> tuple[Line, Head]:
        url, wire = request.url, encoded(request)
        while True:
            line = self._lease(pool_name(request)) or await self._connect(request, pulse, patience)
            try:
                head = await line.ask(wire, patience, silence)
            except StaleError:  # the origin closed the idle one: that says nothing about this request
                continue
            except BaseException as error:
                line.close()
                if isinstance(error, MalformedError):
                    raise malformed(url, error) from None
                if isinstance(error, HeadTooLargeError):
                    raise head_too_large(url, self._max_head_bytes) from None
                if isinstance(error, OSError):
                    raise broken_connection(url, os_cause(error)) from None
                raise
            if head is not None:
                return line, head
            line.close()
            pulse(silence)
            raise no_connection(url, f"no answer in {silence:.0f} s")

    async def _connect(self, request: Request, pulse: Pulse, patience: Patience) -> Line:
        url = request.url
        context = await self._tls_context(request.certificate) if url.scheme == "https" else None
        try:
            async with patience.of(self._connect_timeout):
                line = await self._connector.connect(url, context)
        except TimeoutError as error:
            if error.errno is None:
                pulse(0.0)
                raise no_connection(url, f"not connected within {self._connect_timeout:g} s") from None
            raise connect_error(url, error) from None
        except (OSError, RefusedError) as error:
            raise connect_error(url, error) from None
        self._lines.add(line)
        line.lost.add_done_callback(lambda _: self._lines.discard(line))
        return line

    async def _tls_context(self, certificate: ClientCertificate | None) -> ssl.SSLContext:
        name = "" if certificate is None else certificate.name
        found = self._contexts.get(name)
        if found is None:  # the certificates take a while to load: only when they are needed
            from stager.transfer.tls import tls_context

            found = await self._loop.run_in_executor(None, tls_context, self._ca_bundle, certificate)
            found = self._contexts.setdefault(name, found)
        return found

    # -- idle connections --------------------------------------------------------------------------

    def _lease(self, pool: str) -> Line | None:
        """An idle connection, for one request."""
        idle = self._idle[pool]
        while idle:
            _, line = idle.pop()
            if line.is_idle:
                return line
            line.close()
        return None

    def _give_back(self, pool: str, line: Line, head: Head, leave: Callable[[], None], touched: bool) -> None:
        """Free the connection, for another request if the body was read to its end, and the seat."""
        left = line.body.left
        if head.persistent and not touched and left is not None and 0 < left <= DRAIN_BYTES:
            task = self._loop.create_task(self._drain(pool, line, leave, left))
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)
        else:
            self._free(pool, line, leave, persistent=head.persistent)

    async def _drain(self, pool: str, line: Line, leave: Callable[[], None], left: int) -> None:
        """Read what nobody wants, so that its connection can be kept."""
        await line.fill(memoryview(bytearray(left)), Patience(), DRAIN_SECONDS)
        self._free(pool, line, leave, persistent=True)

    def _free(self, pool: str, line: Line, leave: Callable[[], None], *, persistent: bool) -> None:
        if not persistent or not line.is_clean:
            leave()
            line.close()
        elif line.rest():
            self._keep(pool, line, leave)
        else:  # TLS may hold what nobody asked for: it is read first, and nobody else has the connection before
            self._loop.call_soon(self._keep, pool, line, leave)

    def _keep(self, pool: str, line: Line, leave: Callable[[], None]) -> None:
        leave()
        self._idle[pool].append((self._loop.time(), line))
        if self._tidying is None:
            self._tidying = self._loop.call_later(KEEPALIVE_SECONDS, self._tidy)

    def _tidy(self) -> None:
        """Close what has been idle for long."""
        self._tidying = None
        before = self._loop.time() - KEEPALIVE_SECONDS
        for pool, idle in list(self._idle.items()):
            while idle and (idle[0][0] <= before or idle[0][1].ended):
                idle.popleft()[1].close()
            if not idle:
                del self._idle[pool]
        if self._idle:
            self._tidying = self._loop.call_later(KEEPALIVE_SECONDS, self._tidy)


def _nothing() -> None:
    """The seat stays taken: see `AioTransport.spare`."""

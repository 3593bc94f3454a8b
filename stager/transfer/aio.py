"""The aiohttp driver: it connects, pools, secures and parses; one event loop reads all origins.

Nothing of the environment is used (no proxies, no netrc), no cookie is kept, no redirect is followed and
nothing is decoded: what to do is the plan's business.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import aiohttp
import aiohttp.abc
from yarl import URL

from stager.errors import FetchError, TlsError
from stager.model.urls import Url
from stager.transfer.aio_answer import DRAIN_BYTES, AioAnswer, ClientResponse
from stager.transfer.aio_head import TOO_LONG, Handler, HeadTooLongError
from stager.transfer.classify import head_too_large, os_cause
from stager.transfer.decisions import ClientCertificate, Request
from stager.transfer.exchange import broken_connection, malformed, no_connection
from stager.transfer.patience import Patience
from stager.transfer.reach import Place, Reach, RefusedError
from stager.transfer.transport import Pulse
from stager.transfer.wire import FORM, MAX_HEAD_BYTES

MAX_FIELDS = 1024
"""Fields of a head; aiohttp has one limit for each and one for how many."""
MOST_RESOLVING = 32
"""Names that are resolved at once; one that nobody answers for takes some ten seconds."""
KEEPALIVE_SECONDS = 60.0
"""How long an idle connection is kept; servers end them after 5 to 75."""
DRAIN_SECONDS = 0.25
"""Longest wait for the rest of a small body that nobody wants."""
READ_BYTES = 1 << 18
"""Bytes of a body that may have arrived and wait to be taken; about twice as many at most."""
_OURS = ("Accept", "Accept-Encoding", "User-Agent")
"""aiohttp would add its own."""


class _Resolver(aiohttp.abc.AbstractResolver):
    """Gives aiohttp checked addresses: it connects to these, and asks nobody else.

    In threads of its own: those of the loop are few, and names that resolve slowly would take all of them.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._threads = ThreadPoolExecutor(MOST_RESOLVING, "stager-resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[aiohttp.abc.ResolveResult]:
        """All places of `host`; called by aiohttp, not for what is an address already."""
        del family  # every kind is wanted
        loop = asyncio.get_running_loop()
        places = await loop.run_in_executor(self._threads, self._reach.places, host, port)
        return [_told(host, place) for place in places]

    async def close(self) -> None:
        """Called by aiohttp at the end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _told(host: str, place: Place) -> aiohttp.abc.ResolveResult:
    address, port, *_ = place.address
    return {
        "hostname": host,
        "host": address,
        "port": port,
        "family": place.family,
        "proto": 0,
        "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    }


class _Connector(aiohttp.TCPConnector):
    """aiohttp's, which looks once more at an idle connection before it is used.

    aiohttp gives a connection back in the middle of what it has read: what follows a body in the same
    read would be taken for the answer to the next request.

    Args:
        max_head_bytes: see `Handler`.
        wanted: what aiohttp's takes.
    """

    def __init__(self, max_head_bytes: int, **wanted: Any) -> None:
        super().__init__(**wanted)
        self._factory = partial(Handler, max_head_bytes, self._loop)  # type: ignore[assignment]

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - its
    ) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


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
        self._reach = reach or Reach()
        self._max_head_bytes = max_head_bytes
        self._numbers: set[str] = set()
        """Origins named by an address that may be reached: aiohttp asks no resolver about those."""
        self._contexts: dict[str, ssl.SSLContext] = {}  # by the name of the client certificate
        self._seats: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(connections))
        self._draining: set[asyncio.Task[None]] = set()
        watch = aiohttp.TraceConfig()
        watch.on_connection_create_start.append(self._connecting)
        watch.on_connection_create_end.append(self._connected)
        watch.on_connection_reuseconn.append(self._connected)
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                max_head_bytes,
                limit=0,
                keepalive_timeout=KEEPALIVE_SECONDS,
                resolver=_Resolver(self._reach),
                use_dns_cache=False,  # a connection is kept for longer than a name should be
            ),
            response_class=ClientResponse,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # see `Patience`
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_OURS,
            read_bufsize=READ_BYTES,
            max_line_size=max_head_bytes,
            max_field_size=max_head_bytes,
            max_headers=MAX_FIELDS,
            trace_configs=[watch],
        )

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
            silence: longest wait for the answer once the request can be sent, seconds.
            seated: there is a seat; see `spare`.

        Raises:
            FetchError: no connection, no answer, or no HTTP; or what `pulse` raised.
        """
        url = request.url
        if not seated:
            try:
                async with patience.of(None):
                    await self._seats[url.origin].acquire()
            except TimeoutError:
                pulse(0.0)
                raise
        leave = _nothing if seated else self._seats[url.origin].release
        try:
            response = await self._ask(request, pulse, _Asking(patience, silence))
            _check(response, url, self._max_head_bytes)
        except BaseException:
            leave()
            raise
        return AioAnswer(response, url, partial(self._give_back, leave))

    async def close(self) -> None:
        """Close all connections."""
        for task in list(self._draining):
            await task
        await self._session.close()

    async def _ask(self, request: Request, pulse: Pulse, asking: _Asking) -> ClientResponse:
        url = request.url
        context = await self._tls_context(request.certificate) if url.scheme == "https" else True
        headers = {name: _as_bytes_go(value) for name, value in request.headers.items()}
        try:
            if url.is_number and url.origin not in self._numbers:
                self._reach.places(url.host, url.port)  # resolves nothing
                self._numbers.add(url.origin)
            async with asking.patience.of(self._connect_timeout):
                response = await self._session.request(
                    "GET" if request.form is None else "POST",
                    URL(url.text, encoded=True),
                    headers=headers if request.form is None else headers | {"Content-Type": FORM},
                    data=request.form,
                    allow_redirects=False,
                    ssl=context,
                    trace_request_ctx=asking,
                )
        except RefusedError as error:
            raise error.of(url) from None
        except HeadTooLongError:
            raise head_too_large(url, self._max_head_bytes) from None
        except TimeoutError:
            pulse(asking.silence if asking.connected else 0.0)
            raise no_connection(url, f"not connected within {self._connect_timeout:g} s") from None
        except aiohttp.ClientResponseError as error:
            if error.message.startswith(TOO_LONG):
                raise head_too_large(url, self._max_head_bytes) from None
            raise malformed(url, error.message.splitlines()[0]) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _error(url, error) from None
        assert isinstance(response, ClientResponse)
        return response

    async def _connecting(self, _session: aiohttp.ClientSession, context: Any, _event: object) -> None:
        asking: _Asking = context.trace_request_ctx
        asking.connected = False
        asking.patience.renew(self._connect_timeout)

    async def _connected(self, _session: aiohttp.ClientSession, context: Any, _event: object) -> None:
        asking: _Asking = context.trace_request_ctx
        asking.connected = True
        asking.patience.renew(asking.silence)

    async def _tls_context(self, certificate: ClientCertificate | None) -> ssl.SSLContext:
        name = "" if certificate is None else certificate.name
        found = self._contexts.get(name)
        if found is None:  # the certificates take a while to load: only when they are needed
            from stager.transfer.tls import tls_context

            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(None, tls_context, self._ca_bundle, certificate)
            found = self._contexts.setdefault(name, found)  # connections are kept by their context
        return found

    def _give_back(
        self, leave: Callable[[], None], response: ClientResponse, _url: Url, touched: bool
    ) -> None:
        """Free the connection, for another request if the body was read to its end, and the seat."""
        left = response.content_length
        if not touched and not response.content.is_eof() and left is not None and left <= DRAIN_BYTES:
            task = asyncio.get_running_loop().create_task(self._drain(response, leave))
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)
            return
        response.release()  # closes it when more would follow
        leave()

    async def _drain(self, response: ClientResponse, leave: Callable[[], None]) -> None:
        """Read what nobody wants, so that its connection can be kept."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while await response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, OSError):
            response.close()
        response.release()
        leave()


def _nothing() -> None:
    """The seat stays taken: see `AioTransport.spare`."""


class _Asking:
    """A request that is under way; told when it has a connection."""

    def __init__(self, patience: Patience, silence: float) -> None:
        self.patience = patience
        self.silence = silence
        self.connected = False


def _check(response: ClientResponse, url: Url, max_head_bytes: int) -> None:
    """Refuse, and close, what aiohttp takes though nobody asked for it."""
    if sum(len(name) + len(value) + 4 for name, value in response.raw_headers) > max_head_bytes:
        response.close()
        raise head_too_large(url, max_head_bytes)
    coding = response.headers.get("Transfer-Encoding", "chunked")
    if coding.lower() != "chunked":
        response.close()
        raise malformed(url, f"transfer coding {coding!r} was not asked for")
    if response.status == 101:  # noqa: PLR2004 - HTTP's own numbers
        response.close()
        raise malformed(url, "a change of protocol that was not asked for")


def _error(url: Url, error: Exception) -> FetchError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        refused = error.certificate_error
        said = getattr(refused, "verify_message", "") or str(refused)
        return TlsError(
            f"{url.redacted} can't be fetched",
            cause=f"the certificate of {url.host} is not accepted: {said}",
            remedy="check the host's name and date; for a site's own authority set ca_bundle",
            url=url.redacted,
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return no_connection(url, f"host name {url.host} can't be resolved")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return no_connection(url, "the origin closed the connection without an answer")
    if isinstance(error, OSError) and error.errno:
        return no_connection(url, os.strerror(error.errno))  # asyncio's own text names addresses, at length
    return broken_connection(url, os_cause(error))


def _as_bytes_go(value: str) -> str:
    """A header's value such that aiohttp, which sends UTF-8, sends the bytes that came (read as Latin-1)."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value

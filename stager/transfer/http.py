"""The requests driver: its adapter makes, pools and secures the connections; `wire` reads them.

Nothing of the environment is used (no proxies, no netrc), no redirect is followed and nothing is
decoded: what to do is the plan's business.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ClosedPoolError, HTTPError, NameResolutionError
from urllib3.poolmanager import PoolManager

from stager.errors import ConnectionFailedError, FetchError, ProtocolError, SettingsError, TlsError
from stager.model.urls import Url
from stager.transfer.classify import os_cause
from stager.transfer.fields import Headers
from stager.transfer.plan import Request
from stager.transfer.transport import Pulse
from stager.transfer.wire import (
    MAX_HEAD_BYTES,
    Body,
    End,
    Head,
    MalformedError,
    SizedBody,
    body_of,
    encode_request,
    find_head_end,
    parse_head,
)

SLICE_SECONDS = 0.25
"""Longest wait in one system call, so that a cancel is noticed in time."""
HEAD_BUFFER_BYTES = 16_384
"""First read of an answer: the head, and with it the whole body of a small file."""
MAX_ORIGINS = 64
"""Origins whose idle connections are kept."""
DRAIN_BYTES = 65_536
"""A body that nobody wants is read to its end up to this size, so that its connection can be kept."""

_SLICE_TIMEVAL = struct.pack("@ll", 0, int(SLICE_SECONDS * 1e6))


class _PlainConnection(HTTPConnection):
    """A connection with room for the head of an answer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.buffer = bytearray(HEAD_BUFFER_BYTES)
        self.filled = 0
        """Bytes of the present answer in `buffer`."""
        self.answers = 0
        """Answers read on the present socket."""


class _TlsConnection(HTTPSConnection):
    """The same over TLS."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.buffer = bytearray(HEAD_BUFFER_BYTES)
        self.filled = 0
        self.answers = 0


_Connection = _PlainConnection | _TlsConnection


class _Leasing:
    """Mixed into urllib3's pools: hands out connections without urllib3's request machinery.

    That machinery (`urlopen`, `getresponse`, the email parser) is four fifths of the cost of a small file.
    """

    def lease(self) -> _Connection:
        """A connection that nobody else uses: a live idle one, else a new one, not yet connected."""
        return self._get_conn()  # type: ignore[attr-defined,no-any-return]

    def give_back(self, connection: _Connection) -> None:
        """Keep an idle connection for the next lease."""
        self._put_conn(connection)  # type: ignore[attr-defined]


class _PlainPool(_Leasing, HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(_Leasing, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """requests' adapter with our connections and, for https, one TLS context for all of them."""

    def __init__(self, connections: int, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_connections=MAX_ORIGINS, pool_maxsize=connections)

    def init_poolmanager(
        self,
        connections: int,
        maxsize: int,
        block: bool = False,
        **options: Any,
    ) -> None:
        """Called by the base class."""
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: bool | str, cert: Any = None
    ) -> Any:
        """Called by the base class; our context knows the certificates already."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {} if self._context is None else {"ssl_context": self._context}


def _tls_context(ca_bundle: str) -> ssl.SSLContext:
    """Verifies certificate and host name.

    Raises:
        SettingsError: the bundle can't be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A body without framing is whole only if the origin says so by close_notify.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    bundle = ca_bundle or DEFAULT_CA_BUNDLE_PATH
    try:
        context.load_verify_locations(**({"capath": bundle} if Path(bundle).is_dir() else {"cafile": bundle}))
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"certificates in {bundle} can't be read",
            cause=os_cause(error),
            remedy="set ca_bundle to a PEM file or a directory of them",
        ) from None
    return context


class HttpTransport:
    """Sends requests over http and https; one is used by many threads at once.

    Args:
        connections: idle connections kept per origin.
        connect_timeout_seconds: for name resolution, connection and TLS handshake together.
        ca_bundle: file or directory with the certificates to trust; empty: the usual ones.
    """

    def __init__(
        self, *, connections: int = 16, connect_timeout_seconds: float = 10.0, ca_bundle: str = ""
    ) -> None:
        self._connections = connections
        self._connect_timeout = connect_timeout_seconds
        self._ca_bundle = ca_bundle
        self._adapters: dict[str, _Adapter] = {}
        self._lock = threading.Lock()
        self._pools: dict[str, _PlainPool | _TlsPool] = {}

    def open(self, request: Request, pulse: Pulse) -> HttpResponse:
        """See `Transport.open`."""
        url = request.url
        wire = encode_request(url.host + _port_suffix(url), url.target, request.headers)
        while True:
            pool = self._pool(url)
            try:
                connection = pool.lease()
            except ClosedPoolError:  # the adapter keeps the pools of so many origins only
                self._pools.pop(url.origin, None)
                continue
            if connection.sock is None:
                self._connect(connection, url, pulse)
            try:
                head, rest = _exchange(connection, wire, url, pulse)
            except _StaleError:
                connection.close()
                continue  # the origin closed the idle connection: that says nothing about this request
            except BaseException:
                connection.close()
                raise
            return HttpResponse(pool, connection, head, rest, url)

    def close(self) -> None:
        """See `Transport.close`."""
        with self._lock:
            self._pools.clear()
            for adapter in self._adapters.values():
                adapter.close()

    def _pool(self, url: Url) -> _PlainPool | _TlsPool:
        pool = self._pools.get(url.origin)
        if pool is not None:
            return pool
        with self._lock:
            adapter = self._adapters.get(url.scheme)
            if adapter is None:
                # The certificates take a while to load: only when they are needed.
                context = _tls_context(self._ca_bundle) if url.scheme == "https" else None
                adapter = self._adapters[url.scheme] = _Adapter(self._connections, context)
            prepared = requests.Request("GET", url.text).prepare()
            found = adapter.get_connection_with_tls_context(prepared, verify=True)
            assert isinstance(found, _PlainPool | _TlsPool)
            if len(self._pools) >= MAX_ORIGINS:
                self._pools.clear()  # they are the adapter's; this is only the way to them
            self._pools[url.origin] = found
            return found

    def _connect(self, connection: _Connection, url: Url, pulse: Pulse) -> None:
        """Connect beside this thread: neither name resolution nor a handshake can be interrupted."""
        connection.timeout = self._connect_timeout
        attempt = _Attempt(connection)
        try:
            connected = attempt.wait(self._connect_timeout, pulse)
        except BaseException:
            attempt.abandon()
            raise
        if not connected:
            attempt.abandon()
            raise _no_connection(url, f"not connected within {self._connect_timeout:g} s")
        if attempt.error is not None:
            raise _connect_error(url, attempt.error) from None
        connection.answers = 0
        sock = connection.sock
        assert sock is not None
        if isinstance(sock, ssl.SSLSocket):
            sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
            sock.settimeout(SLICE_SECONDS)
        else:
            # The kernel's own timeout: one call per read (no poll before it), and MSG_WAITALL works.
            sock.settimeout(None)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _SLICE_TIMEVAL)


class _Attempt:
    """One attempt to connect, in a thread that may be left alone."""

    def __init__(self, connection: _Connection) -> None:
        self._ended = threading.Event()
        self.error: BaseException | None = None
        self._connection = connection
        self._abandoned = False
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="stager-connect", daemon=True).start()

    def _run(self) -> None:
        try:
            self._connection.connect()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self.error = error
            self._connection.close()
        with self._lock:
            self._ended.set()
            if self._abandoned:
                self._connection.close()

    def wait(self, timeout: float, pulse: Pulse) -> bool:
        """Whether it has ended, well or badly, within `timeout` seconds (and a slice)."""
        for _ in range(1 + int(timeout / SLICE_SECONDS)):
            if self._ended.wait(min(SLICE_SECONDS, timeout)):
                return True
            pulse(0.0)
        return False

    def abandon(self) -> None:
        """Nobody wants the connection any more; it is closed as soon as it can be."""
        with self._lock:
            self._abandoned = True
            if self._ended.is_set():
                self._connection.close()


class _StaleError(Exception):
    """An idle connection turned out to be closed before a byte of the answer came."""


def _exchange(connection: _Connection, wire: bytes, url: Url, pulse: Pulse) -> tuple[Head, memoryview]:
    """Send the request, read the head; what was read beyond it belongs to the body."""
    assert connection.sock is not None
    connection.filled = 0
    try:
        connection.sock.sendall(wire)
        return _read_head(connection, pulse)
    except MalformedError as error:
        raise _malformed(url, error) from None
    except OSError as error:
        if connection.answers and not connection.filled:
            raise _StaleError from None
        raise _no_connection(url, os_cause(error)) from None


def _read_head(connection: _Connection, pulse: Pulse) -> tuple[Head, memoryview]:
    while True:
        buffer = connection.buffer
        end = find_head_end(buffer[: connection.filled])
        if end < 0:
            _read_more(connection, pulse)
            continue
        head = parse_head(buffer[:end])
        if head.status >= 200:  # noqa: PLR2004 - HTTP's own numbers
            return head, memoryview(buffer)[end : connection.filled]
        if head.status == 101:  # noqa: PLR2004
            raise MalformedError("a change of protocol that was not asked for")
        rest = buffer[end : connection.filled]  # that was an interim answer: the real one follows
        buffer[: len(rest)] = rest
        connection.filled = len(rest)


def _read_more(connection: _Connection, pulse: Pulse) -> None:
    filled = connection.filled
    if filled == len(connection.buffer):
        if filled >= MAX_HEAD_BYTES:
            raise MalformedError(f"a head of more than {MAX_HEAD_BYTES} bytes")
        connection.buffer = connection.buffer + bytearray(filled)
    sock = connection.sock
    assert sock is not None
    while True:
        try:
            count = sock.recv_into(memoryview(connection.buffer)[filled:])
        except (BlockingIOError, TimeoutError):
            pulse(SLICE_SECONDS)
            continue
        if count == 0:
            raise ConnectionError("the origin closed the connection without an answer")
        connection.filled = filled + count
        return


class HttpResponse:
    """See `Response`."""

    def __init__(
        self, pool: _PlainPool | _TlsPool, connection: _Connection, head: Head, rest: memoryview, url: Url
    ) -> None:
        self.status = head.status
        self.headers: Headers = head.headers
        self.end: End | None = None
        self._pool = pool
        self._connection: _Connection | None = connection
        self._persistent = head.persistent
        self._rest = rest
        self._body: Body = body_of(head)
        self._touched = False
        self._url = url
        assert connection.sock is not None
        self._sock = connection.sock
        plain = not isinstance(connection.sock, ssl.SSLSocket)
        # One call fills the buffer. Not for chunks: their end would be noticed a slice late.
        self._flags = socket.MSG_WAITALL if plain and isinstance(self._body, SizedBody) else 0
        if self._body.done:
            self.end = End.COMPLETE

    def readinto(self, buffer: memoryview) -> int | None:
        """See `Response.readinto`."""
        if self.end is not None:
            return 0
        self._touched = True
        left = self._body.left
        if left is not None and left < len(buffer):
            buffer = buffer[:left]
        if self._rest:
            count = min(len(self._rest), len(buffer))
            buffer[:count] = self._rest[:count]
            self._rest = self._rest[count:]
        else:
            try:
                count = self._sock.recv_into(buffer, len(buffer), self._flags)
            except (BlockingIOError, TimeoutError):
                return None
            except OSError:
                self.end = End.BROKEN
                return 0
            if count == 0:
                self.end = self._body.at_close()
                self._persistent = False
                return 0
        try:
            payload = self._body.decode(buffer, count)
        except MalformedError as error:
            self._persistent = False
            raise _malformed(self._url, error) from None
        if self._body.done:
            self.end = End.COMPLETE
        return payload or (0 if self.end is not None else None)

    def close(self) -> None:
        """See `Response.close`."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._persistent and not self._touched:
            self._drain()
        if not self._persistent or self.end is not End.COMPLETE or self._rest or self._body.excess:
            connection.close()
        connection.answers += 1
        self._rest = memoryview(b"")
        self._pool.give_back(connection)

    def _drain(self) -> None:
        left = self._body.left
        if left is None or left > DRAIN_BYTES:
            return
        buffer = memoryview(bytearray(left))
        for _ in range(2):  # what came with the head, and the rest if it is there
            self.readinto(buffer)


def _port_suffix(url: Url) -> str:
    return url.origin[len(url.scheme) + 3 + len(url.host) :]


def _malformed(url: Url, error: MalformedError) -> FetchError:
    return ProtocolError(
        f"{url.redacted} can't be fetched",
        cause=f"the origin's answer is not proper HTTP: {error}",
        remedy="try again later; if it stays, tell the origin's owner",
        url=url.redacted,
    )


def _no_connection(url: Url, cause: str) -> FetchError:
    return ConnectionFailedError(
        f"{url.redacted} can't be fetched",
        cause=cause,
        remedy="check the host and the network, then try again",
        url=url.redacted,
    )


def _connect_error(url: Url, error: BaseException) -> FetchError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(
            f"{url.redacted} can't be fetched",
            cause=f"the certificate of {url.host} is not accepted: {error.verify_message}",
            remedy="check the host's name and date; for a site's own authority set ca_bundle",
            url=url.redacted,
        )
    if isinstance(error, NameResolutionError):
        return _no_connection(url, f"host name {url.host} can't be resolved")
    root = (error.__cause__ or error) if isinstance(error, HTTPError) else error
    if isinstance(root, TimeoutError):
        return _no_connection(url, f"{url.host} does not answer")
    if isinstance(root, OSError | HTTPError):
        return _no_connection(url, os_cause(root))
    raise error

"""The requests driver: its adapter makes, pools and secures the connections; `wire` reads them.

Nothing of the environment is used (no proxies, no netrc), no redirect is followed and nothing is
decoded: what to do is the plan's business.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ClosedPoolError, HTTPError
from urllib3.poolmanager import PoolManager

from stager.errors import FetchError
from stager.model.urls import Url
from stager.transfer.classify import os_cause
from stager.transfer.connecting import connect_error
from stager.transfer.decisions import Request
from stager.transfer.exchange import (
    SLICE_SECONDS,
    Connection,
    HttpResponse,
    StaleError,
    encoded,
    exchange,
    no_connection,
    pool_name,
)
from stager.transfer.heads import HEAD_BUFFER_BYTES
from stager.transfer.reach import Reach, RefusedError
from stager.transfer.tls import tls_context
from stager.transfer.transport import Lane, Pulse
from stager.transfer.wire import MAX_HEAD_BYTES

MAX_ORIGINS = 64
"""Origins whose idle connections are kept."""
_SLICE_TIMEVAL = struct.pack("@ll", 0, int(SLICE_SECONDS * 1e6))


class _Checked:
    """Mixed into urllib3's connections: see `exchange.Connection`; they go where they may, and nowhere else."""

    host: str
    port: int
    timeout: float | None
    reach: Reach
    max_head_bytes: int
    """Both set when it is leased."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.buffer = bytearray(HEAD_BUFFER_BYTES)
        self.filled = self.left = 0
        self.answers = 0
        self.watch = select.poll()

    def _new_conn(self) -> socket.socket:
        """Called by urllib3 to connect; TLS, and whose certificate it takes, is its own business after that."""
        return self.reach.connect(self.host, self.port, self.timeout)


class _PlainConnection(_Checked, HTTPConnection):
    pass


class _TlsConnection(_Checked, HTTPSConnection):
    pass


class _Leasing:
    """Mixed into urllib3's pools: hands out connections without urllib3's request machinery.

    That machinery (`urlopen`, `getresponse`, the email parser) is four fifths of the cost of a small
    file, and its queue of idle connections half of the rest.
    """

    reach: Reach
    max_head_bytes: int

    def __init__(self, *args: Any, maxsize: int = 1, **options: Any) -> None:
        super().__init__(*args, maxsize=maxsize, **options)  # type: ignore[call-arg]
        self._most = maxsize
        self._idle: deque[Connection] = deque()
        weakref.finalize(self, _close_all, self._idle)  # as urllib3 does: its adapter only forgets pools

    def lease(self) -> Connection:
        """A connection that nobody else uses: a live idle one, else a new one, not yet connected."""
        idle = self.lease_idle()
        if idle is not None:
            return idle
        made = self._get_conn()  # type: ignore[attr-defined]
        made.reach, made.max_head_bytes = self.reach, self.max_head_bytes
        return cast("Connection", made)

    def lease_idle(self) -> Connection | None:
        """The same, but only one that is connected."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        if connection.watch.poll(0):  # closed, or an answer to nothing
            connection.close()
            return None
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep an idle connection for the next lease."""
        if connection.sock is None:
            return
        if len(self._idle) < self._most:
            self._idle.append(connection)
        else:
            connection.close()


def _nothing() -> None:
    """Nothing was taken that would have to be given back."""


def _close_all(connections: deque[Connection]) -> None:
    for connection in connections:
        connection.close()


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


class HttpTransport:
    """Sends requests over http and https; one is used by many threads at once.

    Args:
        connections: idle connections kept per origin.
        connect_timeout_seconds: for name resolution, connection and TLS handshake together.
        ca_bundle: file or directory with the certificates to trust; empty: the usual ones.
        reach: where it may connect to; by default whatever is public.
        max_head_bytes: longest head of an answer.
    """

    def __init__(
        self,
        *,
        connections: int = 16,
        connect_timeout_seconds: float = 10.0,
        ca_bundle: str = "",
        reach: Reach | None = None,
        max_head_bytes: int = MAX_HEAD_BYTES,
    ) -> None:
        self._connections = connections
        self._connect_timeout = connect_timeout_seconds
        self._ca_bundle = ca_bundle
        self._reach = reach or Reach()
        self._max_head_bytes = max_head_bytes
        self._adapters: dict[str, _Adapter] = {}
        self._lock = threading.Lock()
        self._pools: dict[str, _PlainPool | _TlsPool] = {}
        self._announced: dict[str, tuple[Request, _PlainPool | _TlsPool, Connection]] = {}

    def open(self, request: Request, pulse: Pulse) -> HttpResponse:
        """See `Transport.open`."""
        url = request.url
        announced = self._announced.pop(url.text, None)
        if announced is not None:
            sent, pool, connection = announced
            if sent is request or sent == request:
                try:
                    return _answer(pool, connection, b"", url, pulse)
                except StaleError:
                    pass  # as below
            else:
                connection.close()
        wire = encoded(request)
        while True:
            pool = self._pool(request)
            try:
                connection = pool.lease()
            except ClosedPoolError:  # the adapter keeps the pools of so many origins only
                self._pools.pop(pool_name(request), None)
                continue
            if connection.sock is None:
                self._connect(connection, url, pulse)
            with suppress(StaleError):  # the origin closed the idle one: that says nothing about this request
                return _answer(pool, connection, wire, url, pulse)

    def announce(self, request: Request) -> bool:
        """See `Transport.announce`."""
        pool = self._pools.get(pool_name(request))
        connection = None if pool is None else pool.lease_idle()
        if pool is None or connection is None or connection.sock is None:
            return False
        try:
            connection.sock.sendall(encoded(request))
        except OSError:
            connection.close()
            return False
        self._announced[request.url.text] = (request, pool, connection)
        return True

    def spare(self, origin: str) -> Lane:  # noqa: ARG002 - it counts no connections
        """See `Transport.spare`."""
        return Lane(self.open, _nothing)

    def withdraw(self, url: str) -> None:
        """See `Transport.withdraw`."""
        announced = self._announced.pop(url, None)
        if announced is not None:
            announced[2].close()

    def close(self) -> None:
        """See `Transport.close`."""
        for url in list(self._announced):
            self.withdraw(url)
        with self._lock:
            self._pools.clear()
            for adapter in self._adapters.values():
                adapter.close()

    def _pool(self, request: Request) -> _PlainPool | _TlsPool:
        url, certificate, name = request.url, request.certificate, pool_name(request)
        pool = self._pools.get(name)
        if pool is not None:
            return pool
        with self._lock:
            kind = url.scheme if certificate is None else certificate.name
            adapter = self._adapters.get(kind)
            if adapter is None:
                # The certificates take a while to load: only when they are needed.
                context = tls_context(self._ca_bundle, certificate) if url.scheme == "https" else None
                adapter = self._adapters[kind] = _Adapter(self._connections, context)
            prepared = requests.Request("GET", url.text).prepare()
            found = adapter.get_connection_with_tls_context(prepared, verify=True)
            assert isinstance(found, _PlainPool | _TlsPool)
            found.reach, found.max_head_bytes = self._reach, self._max_head_bytes
            if len(self._pools) >= MAX_ORIGINS:
                self._pools.clear()  # they are the adapter's; this is only the way to them
            self._pools[name] = found
            return found

    def _connect(self, connection: Connection, url: Url, pulse: Pulse) -> None:
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
            raise no_connection(url, f"not connected within {self._connect_timeout:g} s")
        if attempt.error is not None:
            raise _connect_error(url, attempt.error) from None
        connection.answers = 0
        sock = connection.sock
        assert sock is not None
        connection.watch = select.poll()
        connection.watch.register(sock, select.POLLIN)
        if isinstance(sock, ssl.SSLSocket):
            sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
            sock.settimeout(SLICE_SECONDS)
        else:
            # The kernel's own timeout: one call per read (no poll before it), and MSG_WAITALL works.
            sock.settimeout(None)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _SLICE_TIMEVAL)


class _Attempt:
    """One attempt to connect, in a thread that may be left alone."""

    def __init__(self, connection: Connection) -> None:
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


def _connect_error(url: Url, error: BaseException) -> FetchError:
    root = (error.__cause__ or error) if isinstance(error, HTTPError) else error
    if isinstance(root, OSError | RefusedError):
        return connect_error(url, root)
    if isinstance(root, HTTPError):
        return no_connection(url, os_cause(root))
    raise error


def _answer(
    pool: _PlainPool | _TlsPool, connection: Connection, wire: bytes, url: Url, pulse: Pulse
) -> HttpResponse:
    try:
        head, rest = exchange(connection, wire, url, pulse)
    except BaseException:
        connection.close()
        raise
    return HttpResponse(connection, head, rest, url, pool.give_back)

"""One request and its answer on one connection: sent, read, and the connection given back.

Knows sockets and HTTP as `wire` reads it; where connections come from is not its business.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from stager.errors import ConnectionFailedError, FetchError, ProtocolError
from stager.model.urls import Url
from stager.transfer.classify import credential_required, head_too_large, os_cause
from stager.transfer.decisions import Request
from stager.transfer.fields import Headers
from stager.transfer.heads import HeadTooLargeError, find_head
from stager.transfer.transport import Pulse
from stager.transfer.wire import (
    Body,
    End,
    Head,
    MalformedError,
    SizedBody,
    body_of,
    encode_request,
)

SLICE_SECONDS = 0.25
"""Longest wait in one system call, so that a cancel is noticed in time."""
DRAIN_BYTES = 65_536
"""A body that nobody wants is read to its end up to this size, so that its connection can be kept."""

_NOTHING = memoryview(b"")


class Connection(Protocol):
    """A connection with room for the head of an answer."""

    sock: socket.socket | None
    buffer: bytearray
    filled: int
    left: int
    """See `Incoming`."""
    answers: int
    """Answers read on the present socket."""
    watch: select.poll
    """Tells whether the present socket is readable."""
    timeout: float | None
    """For `connect`, seconds."""
    max_head_bytes: int
    """Of one answer, with the interim ones before it."""

    def connect(self) -> None:
        """Make the socket."""
        ...

    def close(self) -> None:
        """Close the socket; `sock` is None until somebody connects again."""
        ...


class StaleError(Exception):
    """An idle connection turned out to be closed before a byte of the answer came."""


def encoded(request: Request) -> bytes:
    """What is sent for `request`."""
    url = request.url
    port = url.origin[len(url.scheme) + 3 + len(url.host) :]
    return encode_request(url.host + port, url.target, request.headers, request.form)


def pool_name(request: Request) -> str:
    """Whose connections it may use: those on which a certificate was shown are for nobody else."""
    url, certificate = request.url, request.certificate
    return url.origin if certificate is None else f"{url.origin} {certificate.name}"


def exchange(connection: Connection, wire: bytes, url: Url, pulse: Pulse) -> tuple[Head, memoryview]:
    """Send the request (empty: it was sent already), read the head; what was read beyond it belongs to the body."""
    assert connection.sock is not None
    connection.filled = 0
    try:
        if wire:
            connection.sock.sendall(wire)
        return _read_head(connection, pulse)
    except HeadTooLargeError:
        raise head_too_large(url, connection.max_head_bytes) from None
    except MalformedError as error:
        raise malformed(url, error) from None
    except OSError as error:
        if connection.answers and not connection.filled:
            raise StaleError from None
        raise broken_connection(url, os_cause(error)) from None


def _read_head(connection: Connection, pulse: Pulse) -> tuple[Head, memoryview]:
    connection.left = connection.max_head_bytes
    _read_more(connection, pulse)
    while (found := find_head(connection)) is None:
        _read_more(connection, pulse, on=True)
    return found


def _read_more(connection: Connection, pulse: Pulse, *, on: bool = False) -> None:
    """Wait for bytes; `on`: the answer has begun, and one that comes drop by drop is as good as none."""
    filled = connection.filled
    sock = connection.sock
    assert sock is not None
    while True:
        asked = monotonic() if on else 0.0
        try:
            count = sock.recv_into(memoryview(connection.buffer)[filled:] if filled else connection.buffer)
        except (BlockingIOError, TimeoutError):
            pulse(SLICE_SECONDS)
            continue
        if count == 0:
            raise ConnectionError("the origin closed the connection without an answer")
        connection.filled = filled + count
        if on:
            pulse(monotonic() - asked)
        return


class HttpResponse:
    """See `Response`.

    Args:
        connection: it is read from; closed at the end unless another request may follow on it.
        head: what was read of the answer.
        rest: what was read beyond it.
        url: for errors.
        give_back: takes the connection at the end.
    """

    def __init__(
        self,
        connection: Connection,
        head: Head,
        rest: memoryview,
        url: Url,
        give_back: Callable[[Connection], None],
    ) -> None:
        self.status = head.status
        self.headers: Headers = head.headers
        self.end: End | None = None
        self._give_back = give_back
        self._connection: Connection | None = connection
        self._persistent = head.persistent
        self._rest = rest
        self._body: Body = body_of(head)
        self._touched = False
        self._url = url
        assert connection.sock is not None
        self._sock = connection.sock
        if self._body.done:
            self.end = End.COMPLETE

    @property
    def trailer(self) -> Headers:
        """See `Answer.trailer`."""
        return self._body.trailer

    def take(self) -> bytes | None:
        """See `Answer.take`."""
        rest, body = self._rest, self._body
        if body.left != len(rest) or not rest:
            return None
        body.decode(rest, len(rest))
        self._touched = True
        self._rest = _NOTHING
        self.end = End.COMPLETE
        return bytes(rest)  # the next answer will be read into the same memory

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
                count = self._sock.recv_into(buffer, len(buffer), self._flags())
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
            raise malformed(self._url, error) from None
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
        self._rest = _NOTHING
        self._give_back(connection)

    def _flags(self) -> int:
        """One call fills the buffer. Not for chunks: their end would be noticed a slice late."""
        plain = not isinstance(self._sock, ssl.SSLSocket)
        return socket.MSG_WAITALL if plain and isinstance(self._body, SizedBody) else 0

    def _drain(self) -> None:
        left = self._body.left
        if left is None or left > DRAIN_BYTES:
            return
        buffer = memoryview(bytearray(left))
        for _ in range(2):  # what came with the head, and the rest if it is there
            self.readinto(buffer)


def malformed(url: Url, error: MalformedError | str) -> FetchError:
    """The transient error of an origin whose answer can't be understood."""
    return ProtocolError(
        f"{url.redacted} can't be fetched",
        cause=f"the origin's answer is not proper HTTP: {error}",
        remedy="try again later; if it stays, tell the origin's owner",
        url=url.redacted,
    )


def broken_connection(url: Url, cause: str) -> FetchError:
    """The error of a connection that broke off, for this cause of the operating system's or of TLS."""
    if "ALERT_CERTIFICATE_REQUIRED" in cause:
        return credential_required(url, "no client certificate was shown")
    return no_connection(url, cause)


def no_connection(url: Url, cause: str) -> FetchError:
    """The transient error of an origin that can't be reached or does not answer."""
    return ConnectionFailedError(
        f"{url.redacted} can't be fetched",
        cause=cause,
        remedy="check the host and the network, then try again",
        url=url.redacted,
    )

"""An HTTP origin on a real socket that does what it is told: well, badly, slowly, or not at all.

    with Origin() as origin:
        origin.serve("/run.nxs", content(data, etag='"1"', cut=100_000), content(data, etag='"1"'))
        ...
        assert origin.seen("/run.nxs")[1].headers["range"] == "bytes=100000-"

Each path has a list of answers; each request takes the next one, and the last one stays. An answer is
a callable that gets the `Exchange`. Nothing is checked and nothing is put right on the way out.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from stager.transfer.options import TransferOptions

TLS_DIRECTORY = Path(__file__).parent / "tls"
"""A certificate authority and a certificate of it for localhost and 127.0.0.1, for tests only."""
CA_BUNDLE = str(TLS_DIRECTORY / "ca.pem")

BLOCK = 65_536
OVERLAP = TransferOptions().overlap_bytes
"""Bytes that whoever resumes asks for again, to compare them."""
SLOW_BLOCK = 262_144
DRIP = 1000


@dataclass
class Seen:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    connection: int
    """Number of the connection, from 1."""
    sent: int = 0
    """Bytes of body that were sent for it."""
    body: bytes = b""


class GoneError(Exception):
    """The client closed the connection."""


@dataclass
class Exchange:
    """One request, and the socket to answer it on."""

    origin: Origin
    request: Seen
    socket: socket.socket
    keep: bool = True
    """Whether the connection stays open after this answer."""
    ending: Callable[[], None] = lambda: None
    """Called before the last bytes of a body are sent, after which the client may go on."""

    def send(self, data: bytes) -> None:
        """Send bytes that are not body."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise GoneError from error

    def head(self, status: int, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        """Send a status line and headers."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in pairs)]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def body(self, data: bytes) -> None:
        """Send bytes of body, and count them."""
        view = memoryview(data)
        while view:
            try:
                count = self.socket.send(view[:BLOCK])
            except OSError as error:
                raise GoneError from error
            self.request.sent += count
            view = view[count:]

    def chunk(self, data: bytes) -> None:
        """Send one chunk (an empty one is the final one)."""
        self.send(b"%x\r\n" % len(data))
        self.body(data)
        self.send(b"\r\n")

    def close(self) -> None:
        """End the connection in order after this answer."""
        self.keep = False

    def reset(self) -> None:
        """End the connection with a reset."""
        self.keep = False
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def hold(self) -> None:
        """Say nothing more until the client gives up or the origin is closed."""
        self.keep = False
        with contextlib.suppress(OSError):
            while self.socket.recv(BLOCK):
                pass


Answer = Callable[[Exchange], None]


class Origin:
    """A server on a free port of the loopback, on threads of this process.

    Args:
        tls: speak TLS with the certificate of `TLS_DIRECTORY`.
        ragged: end TLS connections without close_notify.
        host: address to listen on.
        port: likewise; 0: any free one.
    """

    def __init__(
        self, *, tls: bool = False, ragged: bool = False, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.requests: list[Seen] = []
        self.connections = 0
        self._answers: dict[str, list[Answer]] = {}
        self._served: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._ragged = ragged
        self._closed = False
        self._arrived = threading.Condition(self._lock)
        self.tls: ssl.SSLContext | None = None
        if tls:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(TLS_DIRECTORY / "cert.pem", TLS_DIRECTORY / "key.pem")
        self._listener = socket.create_server((host, port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.base = f"{'https' if tls else 'http'}://{host}:{self.port}"
        self._acceptor = threading.Thread(target=self._accept, name="origin", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def url(self, path: str) -> str:
        """The URL of `path`."""
        return self.base + path

    def serve(self, path: str, *answers: Answer) -> str:
        """Answer requests for `path` (with its query, if any) like this from now on; its URL."""
        with self._lock:
            self._answers[path] = list(answers)
            self._served[path] = 0
        return self.url(path)

    def seen(self, path: str | None = None) -> list[Seen]:
        """The requests so far, of one path or all."""
        with self._lock:
            return [seen for seen in self.requests if path in {None, seen.target}]

    def wait_for(self, path: str, count: int = 1, timeout: float = 60.0) -> None:
        """Wait until `count` requests for `path` have come."""
        with self._arrived:
            ok = self._arrived.wait_for(
                lambda: sum(seen.target == path for seen in self.requests) >= count, timeout
            )
        if not ok:
            raise AssertionError(f"{count} requests for {path} did not come within {timeout} s")

    def sent(self, path: str | None = None) -> int:
        """Bytes of body sent, of one path or all."""
        return sum(seen.sent for seen in self.seen(path))

    def close(self) -> None:
        """Break all connections and end all threads."""
        with self._lock:
            self._closed = True
            connections = list(self._open)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        for thread in self._threads:
            thread.join()

    # -- threads ----------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self.connections += 1
                number = self.connections
                self._open.add(connection)
            thread = threading.Thread(
                target=self._converse, args=(connection, number), name="origin-connection", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _converse(self, plain: socket.socket, number: int) -> None:
        connection = plain
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.tls is not None:
                connection = self.tls.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._open.discard(plain)
                    self._open.add(connection)
            received = b""
            while True:
                received, request = self._read(connection, received, number)
                if request is None or not self._answer(connection, request):
                    break
            if isinstance(connection, ssl.SSLSocket) and not self._ragged:
                connection.settimeout(0.2)
                connection.unwrap().close()
        except (OSError, GoneError, ValueError):  # ValueError: TLS was shut down by `close`
            pass  # the client went away: what it thinks of that is what the test asks
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _read(self, connection: socket.socket, received: bytes, number: int) -> tuple[bytes, Seen | None]:
        while b"\r\n\r\n" not in received:
            data = connection.recv(BLOCK)
            if not data:
                return b"", None
            received += data
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(rest) < length and (data := connection.recv(BLOCK)):
            rest += data
        return rest[length:], Seen(method, target, headers, number, body=rest[:length])

    def _answer(self, connection: socket.socket, request: Seen) -> bool:
        with self._arrived:
            self.requests.append(request)
            answers = self._answers.get(request.target, [status(404)])
            index = min(self._served[request.target], len(answers) - 1)
            self._served[request.target] += 1
            self._arrived.notify_all()
        exchange = Exchange(self, request, connection)
        answers[index](exchange)
        return exchange.keep


# -- answers ------------------------------------------------------------------------------------------


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
    """Just this status, these headers, this body."""

    def answer(exchange: Exchange) -> None:
        exchange.head(code, {"Content-Length": str(len(body)), **(headers or {})})
        exchange.body(body)

    return answer


def redirect(location: str, code: int = 302) -> Answer:
    """Go elsewhere."""
    return status(code, {"Location": location}, b"elsewhere")


def content(
    data: bytes,
    *,
    etag: str | None = None,
    modified: str | None = None,
    date: str | None = None,
    ranges: bool = True,
    cut: int | None = None,
    end: str = "close",
    pause: float = 0.0,
    until: Callable[[], object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A file, served as it should be: ranges, If-Range, If-None-Match, If-Modified-Since.

    Args:
        data: its bytes.
        etag: its entity tag.
        modified: Last-Modified.
        date: Date.
        ranges: honour Range.
        cut: break off after that many bytes of the body.
        end: how to break off: ``close``, ``reset`` or ``hold`` (say nothing more).
        pause: seconds between two blocks of `SLOW_BLOCK`.
        until: of the second half of the body only `DRIP` bytes at a time are sent until this holds: however slow a
            client is, what it does meanwhile happens before the end.
        headers: more of them; these win.
    """
    common = {"Etag": etag, "Last-Modified": modified, "Date": date}
    known = {name: value for name, value in common.items() if value is not None} | dict(headers or {})

    def answer(exchange: Exchange) -> None:
        asked = exchange.request.headers
        if (etag is not None and asked.get("if-none-match") == etag) or (
            modified is not None and asked.get("if-modified-since") == modified
        ):
            exchange.head(304, known)
            return
        wanted = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", asked.get("range", "")) if ranges else None
        if wanted is not None and asked.get("if-range") in {None, etag or modified}:
            start = int(wanted.group(1))
            if start >= len(data):
                exchange.head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
                return
            part = data[start : int(wanted.group(2)) + 1 if wanted.group(2) else None]
            span = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
            exchange.head(206, {"Content-Length": str(len(part)), "Content-Range": span} | known)
        else:
            part = data
            exchange.head(200, {"Content-Length": str(len(part))} | known)
        body = part if cut is None else part[:cut]
        at, last = 0, max(0, len(body) - 1)
        while at < last:
            drips = until is not None and at >= len(body) // 2 and not until()
            size = min(last - at, len(body) if not pause else DRIP if drips else SLOW_BLOCK)
            exchange.body(body[at : at + size])
            at += size
            time.sleep(pause)
        exchange.ending()
        exchange.body(body[last:])
        if cut is not None:
            _ENDS[end](exchange)

    return answer


class Counted:
    """An answer that counts how many connections are at it at the same time, up to the last bytes of each."""

    def __init__(self, answer: Answer) -> None:
        self.most = 0
        self._answer = answer
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        over = False

        def ending() -> None:
            nonlocal over
            with self._lock:
                self._now -= not over
                over = True

        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        exchange.ending = ending
        try:
            self._answer(exchange)
        finally:
            ending()


_ENDS: dict[str, Callable[[Exchange], None]] = {
    "close": Exchange.close,
    "reset": Exchange.reset,
    "hold": Exchange.hold,
}


def chunked(
    data: bytes,
    *,
    size: int = 1000,
    final: bool = True,
    headers: Mapping[str, str] | None = None,
    code: int = 200,
) -> Answer:
    """`data` in chunks of `size`; without the final one the connection just ends."""

    def answer(exchange: Exchange) -> None:
        exchange.head(code, {"Transfer-Encoding": "chunked", **(headers or {})})
        for start in range(0, len(data), size):
            exchange.chunk(data[start : start + size])
        if final:
            exchange.send(b"0\r\n\r\n")
        else:
            exchange.close()

    return answer


def until_close(data: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """`data` without any framing: it ends where the connection does."""

    def answer(exchange: Exchange) -> None:
        exchange.head(200, headers or {})
        exchange.body(data)
        exchange.close()

    return answer


def raw(data: bytes, *, keep: bool = False, end: str = "close") -> Answer:
    """Exactly these bytes."""

    def answer(exchange: Exchange) -> None:
        exchange.send(data)
        if not keep:
            _ENDS[end](exchange)

    return answer


def trickle(data: bytes, *, block: int, seconds: float, headers: Mapping[str, str] | None = None) -> Answer:
    """`data`, `block` bytes every `seconds`."""

    def answer(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(len(data)), **(headers or {})})
        pause = threading.Event()
        for start in range(0, len(data), block):
            exchange.body(data[start : start + block])
            pause.wait(seconds)

    return answer


def silence(exchange: Exchange) -> None:
    """Take the request and never answer it."""
    exchange.hold()

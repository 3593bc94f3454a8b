"""A small body that is taken as it came with its head, and one that is received piece by piece: no difference."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stager.cache.store import FileCache
from stager.clock import ManualClock
from stager.errors import StagerError
from stager.model.fetches import FetchOrder, FetchRequest
from stager.transfer.decisions import Request
from stager.transfer.exchange import Connection, HttpResponse, exchange
from stager.transfer.fetcher import Fetcher
from stager.transfer.heads import HEAD_BUFFER_BYTES
from stager.transfer.transport import Pulse
from stager.transfer.wire import MAX_HEAD_BYTES

URL = "http://origin.test/file"
NOW = 1_790_000_000.0
BODY = b"the bytes of a small file"


class Line:
    """A connection to an origin that says what it was told to say, and closes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket | None = sock
        self.buffer = bytearray(HEAD_BUFFER_BYTES)
        self.filled = self.left = 0
        self.answers = 0
        self.watch = select.poll()
        self.timeout: float | None = None
        self.max_head_bytes = MAX_HEAD_BYTES

    def connect(self) -> None:
        raise AssertionError("it is connected")

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None


class Scripted:
    """Gives the same answer to every request: in one piece, or the body after the head was read."""

    def __init__(self, head: bytes, body: bytes, *, together: bool) -> None:
        self.head, self.body, self.together = head, body, together
        self.taken = 0

    def open(self, request: Request, pulse: Pulse) -> HttpResponse:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(self.head + self.body if self.together else self.head)
            connection: Connection = Line(ours)
            try:
                head, rest = exchange(connection, b"", request.url, pulse)
                theirs.sendall(b"" if self.together else self.body)
            except BaseException:
                connection.close()
                raise
        response = HttpResponse(connection, head, rest, request.url, lambda used: used.close())
        return self._counting(response)

    def _counting(self, response: HttpResponse) -> HttpResponse:
        take = response.take

        def counted() -> bytes | None:
            taken = take()
            self.taken += taken is not None
            return taken

        response.take = counted  # type: ignore[method-assign]
        return response

    def announce(self, _request: Request) -> bool:
        return False

    def spare(self, origin: str) -> None:
        raise AssertionError(f"a small file from {origin} is brought by one stream")

    def withdraw(self, _url: str) -> None: ...

    def close(self) -> None: ...


def outcome(script: Scripted, request: FetchRequest) -> dict[str, Any]:
    """All that is left of a try."""
    clock = ManualClock(NOW)
    with TemporaryDirectory() as directory, closing(FileCache(directory, clock=clock)) as cache:
        told: dict[str, Any] = {}
        with closing(Fetcher(cache, script, clock=clock)) as fetcher:
            try:
                result = fetcher.fetch(FetchOrder("f", 1, request))
            except StagerError as error:
                told["error"] = error.to_dict()
            else:
                told["result"] = replace(result, location=result.path.name)
                told["bytes"] = result.path.read_bytes()
        entry = cache.lookup(request.key)
        told["entry"] = None if entry is None else (asdict(entry), entry.to_json())
        told["partial"] = cache.has_partial(request.key)
        told["files"] = sorted(path.name for path in Path(directory, "objects").rglob("*"))
        return told


def both(head: bytes, body: bytes, request: FetchRequest) -> Iterator[tuple[Scripted, dict[str, Any]]]:
    for together in (True, False):
        script = Scripted(head, body, together=together)
        yield script, outcome(script, request)


DATES = st.sampled_from(
    ["Mon, 21 Sep 2026 13:33:20 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 01 Jan 2027 00:00:00 GMT", "0"]
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "ETag": st.sampled_from(['"1"', 'W/"1"', "1", '""']),
        "Last-Modified": DATES,
        "Date": DATES,
        "Expires": DATES,
        "Age": st.sampled_from(["0", "60", "-1"]),
        "Cache-Control": st.sampled_from(["max-age=60", "no-store", "s-maxage=5, max-age=9", "public"]),
        "Content-Type": st.sampled_from(["text/plain", 'application/x; a="\\""']),
        "Content-Encoding": st.sampled_from(["gzip", "identity", "x-gzip"]),
        "Accept-Ranges": st.sampled_from(["bytes", "none"]),
        "Content-Range": st.sampled_from(["bytes 0-24/25", "bytes */25"]),
        "Connection": st.sampled_from(["close", "keep-alive"]),
        "Location": st.sampled_from(["/file", "/other"]),
    },
)
FRAMINGS = st.sampled_from(["right", "right", "right", "longer", "shorter", "chunked", "none"])


def framed(framing: str, body: bytes) -> tuple[dict[str, str], bytes]:
    if framing == "chunked":
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return {"Transfer-Encoding": "chunked"}, chunk + b"0\r\n\r\n"
    off = {"right": 0, "longer": 3, "shorter": -3}.get(framing)
    return ({} if off is None else {"Content-Length": str(max(0, len(body) + off))}), body


@settings(max_examples=150, deadline=None)
@given(
    status=st.sampled_from([200, 200, 200, 200, 203, 206, 302, 304, 404, 416, 503]),
    fields=FIELDS,
    framing=FRAMINGS,
    body=st.binary(max_size=200),
    digest=st.sampled_from([None, None, "0" * 64]),
)
def test_what_is_taken_at_once_ends_as_what_is_received(
    status: int, fields: dict[str, str], framing: str, body: bytes, digest: str | None
) -> None:
    length, sent = framed(framing, body)
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{n}: {v}" for n, v in (fields | length).items())]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    (_, at_once), (piecemeal, received) = both(head, sent, FetchRequest(URL, digest, owner="someone"))
    assert at_once == received
    assert piecemeal.taken == 0


@pytest.mark.parametrize("excess", [b"", b"and more than was announced"])
def test_only_a_body_that_is_whole_and_no_more_is_taken(excess: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    (together, at_once), (_, received) = both(head, BODY + excess, FetchRequest(URL))
    assert together.taken == (not excess)
    assert at_once["bytes"] == received["bytes"] == BODY

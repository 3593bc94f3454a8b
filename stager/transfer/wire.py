"""HTTP/1.1 as it looks on the wire, without I/O: requests out, heads and bodies in (RFC 9112).

A reader of our own, because a fetch stands or falls with framing: every client library measured
accepts some kind of cut body, and header parsing is most of what a small file costs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple

MAX_HEAD_BYTES = 65_536
"""Longest head of a response, unless a site says otherwise, and longest trailer."""
FORM = "application/x-www-form-urlencoded"
_MAX_CHUNK_LINE = 4096
"""Longest chunk-size line with its extensions, bytes."""

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HEAD_END = re.compile(rb"\n\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_LENGTH = re.compile(r"[0-9]{1,18}")  # fits in 63 bits


NO_FIELDS: Mapping[str, str] = {}
"""Of what has none."""


class MalformedError(ValueError):
    """The bytes are not HTTP/1.x, or contradict themselves."""


class End(Enum):
    """How a body ended."""

    COMPLETE = auto()
    """Its framing says that it is whole."""
    CLOSED = auto()
    """The connection was closed in order and the body had no framing: nobody can tell."""
    BROKEN = auto()
    """The connection ended before the framing did."""


class Head(NamedTuple):
    """The head of a response.

    `headers` has lower-case names; repeated fields are joined by a comma and a space. Content-Length
    is absent where Transfer-Encoding overrules it.
    """

    status: int
    headers: dict[str, str]
    length: int | None
    """Bytes of the body, None: see `chunked`, else until the connection closes."""
    chunked: bool
    persistent: bool
    """Whether another request may follow on this connection."""


def encode_request(host: str, target: str, headers: Mapping[str, str], form: bytes | None = None) -> bytes:
    """A GET request, or a POST with a form.

    Raises:
        ValueError: a line break in a header (it would smuggle another one), or text that is not Latin-1.
    """
    if form is not None:
        headers = {**headers, "Content-Type": FORM, "Content-Length": str(len(form))}
    text = f"{'GET' if form is None else 'POST'} {target} HTTP/1.1\r\nHost: {host}\r\n"
    for name, value in headers.items():
        text += f"{name}: {value}\r\n"
    lines = 2 + len(headers)
    if text.count("\n") != lines or text.count("\r") != lines:
        raise ValueError("a header of the request contains a line break")
    head = (text + "\r\n").encode("latin-1")
    return head if form is None else head + form


def find_head_end(data: bytes | bytearray, count: int = sys.maxsize) -> int:
    """Index of the first byte after the head in the first `count` bytes of `data`, -1 if it is not complete."""
    end = data.find(b"\r\n\r\n", 0, count)
    if end >= 0:
        return end + 4
    match = _HEAD_END.search(data, 0, count)  # some old servers end lines with a bare line feed
    return match.end() if match else -1


def parse_head(data: bytes | bytearray) -> Head:
    """The head in `data`, which ends where `find_head_end` said.

    Raises:
        MalformedError: anything that two readers could understand in two ways.
    """
    first, *lines = data.decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
    status, modern = _status(first)
    headers: dict[str, str] = {}
    for line in lines:
        name, value = _field(line)
        if name in headers:  # a cookie may have commas in it, and no line break
            value = f"{headers[name]}\n{value}" if name == "set-cookie" else f"{headers[name]}, {value}"
        headers[name] = value
    return _framed(status, modern, headers)


@lru_cache(maxsize=64)
def _status(line: str) -> tuple[int, bool]:
    """Status, and whether the version is 1.1."""
    match = _STATUS_LINE.fullmatch(_clean(line))
    if match is None:
        raise MalformedError(f"no HTTP status line: {line[:80]!r}")
    return int(match.group(2)), match.group(1) == "1"


@lru_cache(maxsize=1024)  # most lines of an origin's answers are the same in all of them
def _field(line: str) -> tuple[str, str]:
    """Name, in lower case, and value."""
    name, colon, value = _clean(line).partition(":")
    if not colon or not _TOKEN.fullmatch(name):
        raise MalformedError(f"not a header line: {line[:80]!r}")
    return name.lower(), value.strip(" \t")


def _clean(line: str) -> str:
    if _CONTROL.search(line):
        raise MalformedError("control characters in the head")
    return line


def _framed(status: int, modern: bool, headers: dict[str, str]) -> Head:
    """RFC 9112, 6.3: which body follows."""
    connection = headers.get("connection", "").lower()
    persistent = "close" not in connection and (modern or "keep-alive" in connection)
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if not modern or coding.lower() != "chunked":
            raise MalformedError(f"transfer coding {coding!r} was not asked for")
        if headers.pop("content-length", None) is not None:
            persistent = False  # somebody on the way may have understood it the other way
    length = _content_length(headers)
    if status < 200 or status in {204, 304}:  # noqa: PLR2004 - these never have a body
        return Head(status, headers, 0, chunked=False, persistent=persistent)
    if coding is not None:
        return Head(status, headers, None, chunked=True, persistent=persistent)
    return Head(status, headers, length, chunked=False, persistent=persistent and length is not None)


def _content_length(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    values = {value.strip(" \t") for value in text.split(",")} if "," in text else {text}
    if len(values) > 1:
        raise MalformedError(f"conflicting lengths {text!r}")
    (value,) = values
    if not _LENGTH.fullmatch(value):
        raise MalformedError(f"impossible length {value[:80]!r}")
    headers["content-length"] = value
    return int(value)


class SizedBody:
    """A body of a length that was announced."""

    trailer: Mapping[str, str] = NO_FIELDS

    def __init__(self, length: int) -> None:
        self.left = length
        self.excess = False

    @property
    def done(self) -> bool:
        """Whether all of it came."""
        return self.left == 0

    def decode(self, view: memoryview, count: int) -> int:  # noqa: ARG002 - see `ChunkedBody.decode`
        """How many of the `count` bytes that were read belong to the body."""
        if count > self.left:
            self.excess = True
            count = self.left
        self.left -= count
        return count

    def at_close(self) -> End:
        """What it means that the connection ended now."""
        return End.BROKEN if self.left else End.COMPLETE


class OpenBody:
    """A body that ends where the connection does."""

    left: int | None = None
    done = False
    excess = False
    trailer: Mapping[str, str] = NO_FIELDS

    def decode(self, view: memoryview, count: int) -> int:  # noqa: ARG002
        """See `SizedBody.decode`."""
        return count

    def at_close(self) -> End:
        """See `SizedBody.at_close`."""
        return End.CLOSED


class ChunkedBody:
    """A body in chunks (RFC 9112, 7.1); the chunk lines are cut out where they lie.

    `trailer` has the fields behind it, as `Head.headers` those before it.
    """

    left: int | None = None

    def __init__(self) -> None:
        self.done = False
        self.excess = False
        self.trailer: dict[str, str] = {}
        self._data = 0  # bytes of the current chunk still to come
        self._line = b""  # what came of a line so far
        self._state = self._size_line
        self._trailer_bytes = 0

    def decode(self, view: memoryview, count: int) -> int:
        """Move the payload among the first `count` bytes of `view` to its front; its size.

        Raises:
            MalformedError: the chunks are not well-formed.
        """
        read = write = 0
        while read < count and not self.done:
            if self._data:
                take = min(self._data, count - read)
                if read != write:
                    view[write : write + take] = view[read : read + take]
                read += take
                write += take
                self._data -= take
                continue
            piece = bytes(view[read : min(count, read + _MAX_CHUNK_LINE)])
            end = piece.find(b"\n") + 1
            self._line += piece[:end] if end else piece
            read += end or len(piece)
            if end:
                line, self._line = self._line, b""
                self._state(line)
            elif len(self._line) > _MAX_CHUNK_LINE:
                raise MalformedError("a chunk line without end")
        if read < count:
            self.excess = True
        return write

    def at_close(self) -> End:
        """See `SizedBody.at_close`."""
        return End.COMPLETE if self.done else End.BROKEN

    def _size_line(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise MalformedError(f"not a chunk size: {line[:40]!r}")
        self._data = int(match.group(1), 16)
        self._state = self._end_of_data if self._data else self._trailer_line

    def _end_of_data(self, line: bytes) -> None:
        if line != b"\r\n":
            raise MalformedError("a chunk is longer than it says")
        self._state = self._size_line

    def _trailer_line(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if self._trailer_bytes > MAX_HEAD_BYTES:
            raise MalformedError("a trailer without end")
        self.done = line in {b"\r\n", b"\n"}
        if not self.done:
            name, value = _field(line.decode("latin-1").rstrip("\r\n"))
            self.trailer[name] = f"{self.trailer[name]}, {value}" if name in self.trailer else value


Body = SizedBody | OpenBody | ChunkedBody


def body_of(head: Head) -> Body:
    """The reader for the body that follows `head`."""
    if head.chunked:
        return ChunkedBody()
    return OpenBody() if head.length is None else SizedBody(head.length)

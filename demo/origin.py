"""An origin on the loopback: serves a directory slowly, answers ranges and conditions, and misbehaves once.

    python origin.py DIRECTORY --log FILE --rate BYTES_PER_S [--slow NAME=RATE] [--reset NAME=OFFSET] [--no-cache NAME]

It prints its URL, writes a line of JSON for every request once it is over, and ends with its stdin,
that is with the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import struct
import sys
import threading
import time
from dataclasses import asdict, dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

BEAT_SECONDS = 0.02
"""A throttled body goes out in pieces of so much time."""
SEND_BUFFER_BYTES = 1 << 16
"""Small, so that a sent byte is nearly a received one: otherwise the kernel would take megabytes ahead."""
LIFETIME_SECONDS = 3600
"""How long copies are fresh, unless the file is one that changes."""


@dataclass
class Request:
    """One request as the origin saw it.

    Attributes:
        path: what was asked for.
        range: header of that name, or None; likewise `if_range` and `if_none_match`.
        status: of the answer.
        sent: bytes of body that went out.
        ended: ``complete``, ``reset`` (by us), or ``gone`` (the client went away).
    """

    path: str
    range: str | None
    if_range: str | None
    if_none_match: str | None
    status: int = 0
    sent: int = 0
    ended: str = "complete"


class Site:
    """What is served, and how."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.directory: Path = options.directory
        self.rate: int = options.rate
        self.rates: dict[str, int] = dict(options.slow)
        self.resets: dict[str, int] = dict(options.reset)
        self.no_cache: set[str] = set(options.no_cache)
        self._log = options.log.open("a", buffering=1)
        self._lock = threading.Lock()

    def reset_at(self, name: str, start: int) -> int | None:
        """Where this answer breaks off; each file does so once."""
        with self._lock:
            offset = self.resets.get(name)
            return self.resets.pop(name) if offset is not None and start < offset else None

    def write(self, request: Request) -> None:
        """Append to the log."""
        with self._lock:
            self._log.write(json.dumps(asdict(request)) + "\n")


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = "HTTP/1.1"
    site: ClassVar[Site]

    def do_GET(self) -> None:
        """Send the file, a part of it, or the reason why not."""
        asked = self.headers
        request = Request(self.path, asked["Range"], asked["If-Range"], asked["If-None-Match"])
        try:
            self._answer(request)
        except (ConnectionError, TimeoutError):
            request.ended = "gone"
            self.close_connection = True
        finally:
            self.site.write(request)

    do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        """Nothing on stderr: the log has it all."""

    def _answer(self, request: Request) -> None:
        name = self.path.removeprefix("/")
        path = self.site.directory / name
        if "/" in name or name.startswith(".") or not path.is_file():
            self._head(request, HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return
        with path.open("rb") as file:  # open: it stays this version, whatever the name points to later
            about = os.fstat(file.fileno())
            size, etag = about.st_size, f'"{about.st_mtime_ns:x}"'
            headers = {
                "ETag": etag,
                "Last-Modified": formatdate(about.st_mtime, usegmt=True),
                "Accept-Ranges": "bytes",
                "Cache-Control": "no-cache" if name in self.site.no_cache else f"max-age={LIFETIME_SECONDS}",
            }
            if request.if_none_match == etag:
                self._head(request, HTTPStatus.NOT_MODIFIED, headers)
                return
            start = self._start(request, etag)
            if start is None:
                status, start = HTTPStatus.OK, 0
            elif start < size:
                status = HTTPStatus.PARTIAL_CONTENT
                headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            else:
                headers |= {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
                self._head(request, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
                return
            self._head(request, status, headers | {"Content-Length": str(size - start)})
            if self.command == "GET":
                file.seek(start)
                self._body(request, file.fileno(), start, self.site.reset_at(name, start))

    @staticmethod
    def _start(request: Request, etag: str) -> int | None:
        """Offset that is asked for; None for the whole file, also when the copy is of another version."""
        found = re.fullmatch(r"bytes=(\d+)-", request.range or "")
        if found is None or request.if_range not in {None, etag}:
            return None
        return int(found[1])

    def _head(self, request: Request, status: HTTPStatus, headers: dict[str, str]) -> None:
        request.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, request: Request, fd: int, start: int, reset_at: int | None) -> None:
        """Send the rest of the file at the file's rate."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        rate = self.site.rates.get(request.path.removeprefix("/"), self.site.rate)
        piece = max(1, int(rate * BEAT_SECONDS))
        began = time.monotonic()
        while block := os.read(
            fd, piece if reset_at is None else min(piece, reset_at - start - request.sent)
        ):
            self.wfile.write(block)
            request.sent += len(block)
            time.sleep(max(0.0, began + request.sent / rate - time.monotonic()))
        if reset_at is not None:
            request.ended = "reset"
            self._reset()

    def _reset(self) -> None:
        """Break the connection off hard: closing without lingering sends RST instead of FIN."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())


def serve(options: argparse.Namespace) -> None:
    """Serve until stdin ends."""
    Handler.site = Site(options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
    server.shutdown()


def _pair(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    return name, int(number)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="with the files, flat")
    parser.add_argument("--log", type=Path, required=True, help="a line of JSON per request")
    parser.add_argument("--rate", type=int, required=True, help="bytes/s of one connection")
    parser.add_argument("--slow", type=_pair, action="append", default=[], metavar="NAME=RATE")
    parser.add_argument("--reset", type=_pair, action="append", default=[], metavar="NAME=OFFSET")
    parser.add_argument("--no-cache", action="append", default=[], metavar="NAME", help="ask again each time")
    serve(parser.parse_args())


if __name__ == "__main__":
    main()

"""Files that the kernel sends: readers that stall, go away or ask for more at once, and files that shrink."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from unittest.mock import MagicMock

import pytest
from starlette.types import Message, Receive, Scope, Send

from stager.errors import CacheIOError
from stager.server import sendfile
from stager.server.bytes import FileAnswer
from stager.server.conditions import Span
from stager.server.listen import ApiServer, open_socket
from tests.support.until import until

DATA = random.Random(7).randbytes(8 << 20)


class Site:
    """An ASGI application that answers with a file, and what became of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = MagicMock()  # what a server tells its application when it ends
        self.files: list[BinaryIO] = []
        self.errors: list[BaseException] = []
        self.size = path.stat().st_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file = self.path.open("rb")
        self.files.append(file)
        try:
            await FileAnswer(file, [Span(0, self.size)], "application/octet-stream")(scope, receive, send)
        except BaseException as error:
            self.errors.append(error)
            raise


@contextmanager
def serving(site: Site) -> Iterator[int]:
    with open_socket("127.0.0.1", 0) as listening:
        ready = threading.Event()
        server = ApiServer(site, ready.set)  # type: ignore[arg-type]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert ready.wait(60)
            yield listening.getsockname()[1]
        finally:
            server.stop()
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return Site(path)


def asking(port: int, times: int = 1) -> socket.socket:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    reader.settimeout(60)
    reader.connect(("127.0.0.1", port))
    reader.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * times)
    return reader


def read(file: BinaryIO) -> bytes:
    """The body of one answer."""
    length = 0
    while line := file.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return file.read(length)


def rest(reader: socket.socket) -> bytes:
    """All that still comes until the connection is cut."""
    body = bytearray()
    with suppress(ConnectionError):
        while block := reader.recv(1 << 20):
            body += block
    return bytes(body)


def test_a_reader_that_takes_nothing_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sendfile, "STALL_SECONDS", 0.2)
    with serving(site) as port, asking(port) as reader:
        until(lambda: site.files and site.files[0].closed, "it is cut off")
        assert len(rest(reader)) < len(DATA)
    assert site.errors == []


def test_a_reader_that_goes_away_is_no_error(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with serving(site) as port, caplog.at_level(logging.WARNING):
        for _ in range(3):
            with asking(port) as reader:
                assert reader.recv(1000)
        until(lambda: len(site.files) == 3 and all(f.closed for f in site.files), "all are given up")
    assert site.errors == []
    assert caplog.records == []


def test_requests_that_come_at_once_are_answered_one_after_another(site: Site) -> None:
    with serving(site) as port, asking(port, times=3) as reader:
        file = reader.makefile("rb")
        assert [read(file) == DATA for _ in range(3)] == [True] * 3


def test_a_file_that_is_shorter_than_was_said_breaks_the_connection(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.size += 1
    with serving(site) as port, asking(port) as reader, caplog.at_level(logging.CRITICAL, "uvicorn.error"):
        assert rest(reader).endswith(DATA[-100:])
    assert [type(error) for error in site.errors] == [CacheIOError]


def test_a_server_that_ends_waits_for_no_reader_for_long(site: Site) -> None:
    with serving(site) as port:
        reader = asking(port)
        assert reader.recv(1000)
    with reader:
        assert len(rest(reader)) < len(DATA)
    assert site.files[0].closed


def test_without_the_extension_the_same_is_sent_a_block_at_a_time(site: Site) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "asgi": {"spec_version": "2.3"}}
    parts: list[Span | bytes] = [b"<", Span(5, 2_000_000), b">"]
    with site.path.open("rb") as file:
        asyncio.run(FileAnswer(file, parts, "text/plain")(scope, receive, send))
    bodies = [message["body"] for message in sent[1:]]
    assert b"".join(bodies) == b"<" + DATA[5:2_000_000] + b">"
    assert max(map(len, bodies)) <= 256 * 1024
    assert file.closed


def test_a_file_that_is_shorter_is_an_error_a_block_at_a_time_too(site: Site) -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(_: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "asgi": {"spec_version": "2.3"}}
    os.truncate(site.path, 100)
    answer = FileAnswer(site.path.open("rb"), [Span(0, 1_000_000)], "text/plain")
    with pytest.raises(CacheIOError, match="ends at byte 100"):
        asyncio.run(answer(scope, receive, send))

"""A connection in an event loop, with a scripted other side: whatever way the bytes come, the body is right."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from stager.transfer.aio import AioTransport
from stager.transfer.aio_line import Line, PlainLine, TlsLine
from stager.transfer.exchange import StaleError
from stager.transfer.patience import Patience
from stager.transfer.wire import End, Head, MalformedError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"0123456789"
LONG = 30.0
AT_ONCE = 0.001


class Wire:
    """The transport of a line, and the other side: what it sends comes as far as the line reads."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.unread = b""
        self.reads = True
        self.closed = False
        self.hung_up = False
        self.socket, self._other = socket.socketpair()
        line.connection_made(self)

    def close(self) -> None:
        self.socket.close()
        self._other.close()

    def send(self, data: bytes) -> None:
        self.unread += data
        self._give()

    def hang_up(self) -> None:
        self.hung_up = True
        self._give()

    def _give(self) -> None:
        while self.unread and self.reads and not self.closed:
            if isinstance(self.line, PlainLine):
                space = self.line.get_buffer(-1)
                assert len(space)
                count = min(len(space), len(self.unread))
                space[:count] = self.unread[:count]
                self.unread = self.unread[count:]
                self.line.buffer_updated(count)
            else:
                assert isinstance(self.line, TlsLine)
                data, self.unread = self.unread, b""
                self.line.data_received(data)
        if self.hung_up and self.reads and not self.unread:
            self.line.eof_received()

    # -- as a line sees it

    def get_extra_info(self, name: str) -> Any:
        return self.socket if name == "socket" else None

    def write(self, data: bytes) -> None:
        assert data == b"request"

    def pause_reading(self) -> None:
        assert self.reads
        self.reads = False

    def resume_reading(self) -> None:
        assert not self.reads
        self.reads = True
        asyncio.get_running_loop().call_soon(self._give)

    def abort(self) -> None:
        self.closed = True


@pytest.fixture(params=[PlainLine, TlsLine], ids=["plain", "tls"])
def kind(request: pytest.FixtureRequest) -> type[Line]:
    found: type[Line] = request.param
    return found


@pytest.fixture
def wires() -> Iterator[list[Wire]]:
    made: list[Wire] = []
    yield made
    for wire in made:
        wire.close()


def made(kind: type[Line], wires: list[Wire]) -> Wire:
    wires.append(Wire(kind(65_536)))
    return wires[-1]


async def ask(wire: Wire, *pieces: bytes) -> Head:
    """Ask; the answer comes in these pieces."""
    asked = asyncio.ensure_future(wire.line.ask(b"request", Patience(), LONG))
    for piece in pieces:
        await asyncio.sleep(0)
        wire.send(piece)
    head = await asked
    assert head is not None
    return head


async def read(wire: Wire, room: int) -> tuple[bytes, End | None]:
    """The rest of the body, so much at a time."""
    body, end = wire.line.take() or b"", None
    while end is None and not wire.line.body.done:
        space = memoryview(bytearray(room))
        filled, end = await wire.line.fill(space, Patience(), LONG)
        body += bytes(space[: filled.received])
    return body, end


@pytest.mark.parametrize("room", [1, 3, 100])
@pytest.mark.parametrize(
    "answer",
    [HEAD + BODY, CHUNKED + b"4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\nA: b\r\n\r\n"],
    ids=["length", "chunks"],
)
def test_a_body_is_right_wherever_it_is_cut_and_however_much_room_there_is(
    kind: type[Line], wires: list[Wire], answer: bytes, room: int
) -> None:
    async def work() -> None:
        for cut in range(1, len(answer)):
            wire = made(kind, wires)
            head = answer.index(b"\r\n\r\n") + 4
            if cut >= head:
                await ask(wire, answer[:cut])
                asyncio.get_running_loop().call_soon(wire.send, answer[cut:])
            else:
                await ask(wire, answer[:cut], answer[cut:])
            assert (await read(wire, room))[0] == BODY
            assert wire.line.is_idle
            wire.close()

    asyncio.run(work())


def test_nothing_is_read_that_nobody_has_room_for(wires: list[Wire]) -> None:
    async def work() -> None:
        wire = made(PlainLine, wires)
        await ask(wire, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        wire.send(bytes(1_000_000))
        assert len(wire.unread) == 1_000_000
        filled, _ = await wire.line.fill(memoryview(bytearray(1000)), Patience(), LONG)
        assert filled.received == 1000
        assert len(wire.unread) == 999_000

    asyncio.run(work())


def test_what_comes_behind_a_body_harms_neither_it_nor_the_next(kind: type[Line], wires: list[Wire]) -> None:
    async def work() -> None:
        for pieces in ([HEAD + BODY + b"more"], [HEAD + BODY, b"HTTP/1.1 200 OK\r\n"]):
            wire = made(kind, wires)
            await ask(wire, pieces[0])
            for piece in pieces[1:]:
                wire.send(piece)
            assert (await read(wire, 100))[0] == BODY
            assert not wire.line.is_idle

    asyncio.run(work())


def test_what_an_idle_connection_says_unasked_ends_it(kind: type[Line], wires: list[Wire]) -> None:
    async def work() -> None:
        wire = made(kind, wires)
        await ask(wire, HEAD + BODY)
        assert wire.line.take() == BODY
        wire.line.rest()
        before = wire.line.is_idle
        wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
        assert (before, wire.line.is_idle, wire.closed) == (True, False, True)

    asyncio.run(work())


def test_a_connection_that_ended_before_the_answer_says_nothing_about_the_request_if_it_is_used_again(
    kind: type[Line], wires: list[Wire]
) -> None:
    async def work() -> None:
        fresh = made(kind, wires)
        asked = asyncio.ensure_future(fresh.line.ask(b"request", Patience(), LONG))
        await asyncio.sleep(0)
        fresh.hang_up()
        with pytest.raises(ConnectionError, match="without an answer"):
            await asked
        used = made(kind, wires)
        await ask(used, HEAD + BODY)
        used.line.take()
        used.line.rest()
        used.hang_up()
        with pytest.raises(StaleError):
            await used.line.ask(b"request", Patience(), LONG)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("head", "how"),
    [
        (HEAD, End.BROKEN),
        (CHUNKED + b"5\r\n", End.BROKEN),
        (b"HTTP/1.1 200 OK\r\n\r\n", End.CLOSED),
    ],
    ids=["length", "chunks", "no framing"],
)
def test_a_connection_that_ends_early_is_an_end_and_what_came_before_counts(
    kind: type[Line], wires: list[Wire], head: bytes, how: End
) -> None:
    async def work() -> None:
        wire = made(kind, wires)
        await ask(wire, head + b"01")
        asyncio.get_running_loop().call_soon(wire.send, b"23")
        asyncio.get_running_loop().call_soon(wire.hang_up)
        assert await read(wire, 3) == (b"0123", how)

    asyncio.run(work())


def test_a_connection_that_breaks_without_framing_is_no_proper_end(
    kind: type[Line], wires: list[Wire]
) -> None:
    async def work() -> None:
        wire = made(kind, wires)
        await ask(wire, b"HTTP/1.1 200 OK\r\n\r\n0123")
        asyncio.get_running_loop().call_soon(wire.line.connection_lost, ConnectionResetError())
        assert await read(wire, 100) == (b"0123", End.BROKEN)

    asyncio.run(work())


def test_chunks_that_break_are_told_of_while_they_are_waited_for(kind: type[Line], wires: list[Wire]) -> None:
    async def work() -> None:
        wire = made(kind, wires)
        await ask(wire, CHUNKED + b"4\r\n0123\r\n")
        asyncio.get_running_loop().call_soon(wire.send, b"nonsense\r\n")
        with pytest.raises(MalformedError):
            await read(wire, 100)

    asyncio.run(work())


def test_who_is_silent_is_given_up_and_what_came_is_handed_out_soon(
    kind: type[Line], wires: list[Wire]
) -> None:
    async def work() -> None:
        wire = made(kind, wires)
        assert await wire.line.ask(b"request", Patience(), AT_ONCE) is None
        wire = made(kind, wires)
        await ask(wire, HEAD)
        space = memoryview(bytearray(10))
        filled, end = await wire.line.fill(space, Patience(), AT_ONCE)
        assert (filled.received, end) == (0, None)
        asyncio.get_running_loop().call_soon(wire.send, b"01")
        filled, end = await wire.line.fill(space, Patience(), LONG)  # and does not wait for so long
        assert (filled.received, end) == (2, None)

    asyncio.run(work())


def test_an_urged_wait_ends_at_once(kind: type[Line], wires: list[Wire]) -> None:
    async def work() -> None:
        wire, patience = made(kind, wires), Patience()
        asyncio.get_running_loop().call_soon(patience.urge)
        assert await wire.line.ask(b"request", patience, LONG) is None
        wire = made(kind, wires)
        await ask(wire, HEAD)
        filled, end = await wire.line.fill(memoryview(bytearray(10)), patience, LONG)
        assert (filled.received, end) == (0, None)

    asyncio.run(work())


@pytest.mark.parametrize(
    "stray", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], ids=["nothing", "an answer"]
)
def test_who_waits_for_a_connection_gets_none_on_which_something_lies_unread(
    kind: type[Line], wires: list[Wire], stray: bytes
) -> None:
    async def work() -> None:
        transport = AioTransport(connections=1)
        wire = made(kind, wires)
        await ask(wire, HEAD)
        asyncio.get_running_loop().call_soon(wire.send, BODY)
        assert (await read(wire, 100))[0] == BODY
        wire.send(stray)  # while nobody reads; TLS holds it, and the socket has nothing
        seats = asyncio.Semaphore(0)

        async def next_one() -> Line | None:
            await seats.acquire()
            return transport._lease("pool")

        waits = asyncio.ensure_future(next_one())
        await asyncio.sleep(0)
        transport._free("pool", wire.line, seats.release, persistent=True)
        assert await waits is (None if stray else wire.line)

    asyncio.run(work())

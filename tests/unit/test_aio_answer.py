"""A body from aiohttp whose connection is going away: broken, or of chunks that aiohttp can't read."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol

from stager.errors.fetch import ProtocolError
from stager.model.urls import parse_url
from stager.transfer.aio_answer import AioAnswer
from stager.transfer.patience import Patience
from stager.transfer.wire import End

LENGTH = ((b"Content-Length", b"10"),)
CHUNKED = ((b"Transfer-Encoding", b"chunked"),)


def begun(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[AioAnswer, aiohttp.StreamReader]:
    """An answer of which four bytes came and whose connection is just being closed."""
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(asyncio.Transport())
    content = aiohttp.StreamReader(protocol, 65536, loop=loop)
    content.feed_data(b"four")
    transport = SimpleNamespace(is_closing=lambda: True)
    response: Any = SimpleNamespace(
        status=200, raw_headers=headers, content=content, transport=transport, tls=None
    )
    return AioAnswer(response, parse_url("http://origin/run.nxs"), lambda *_: None), content


async def fill(answer: AioAnswer) -> int:
    return (await answer.fill(memoryview(bytearray(10)), Patience(), 0.02)).received


@pytest.mark.parametrize("headers", [LENGTH, CHUNKED])
def test_a_connection_that_breaks_while_it_is_waited_for_is_a_broken_end(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    async def read() -> tuple[int, int, End | None]:
        answer, content = begun(headers)
        first = await fill(answer)  # waited for more in vain
        content.set_exception(aiohttp.ClientPayloadError("the connection was lost"))
        return first, await fill(answer), answer.end

    assert asyncio.run(read()) == (4, 0, End.BROKEN)


def test_chunks_that_aiohttp_gave_up_are_told_of() -> None:
    async def read() -> None:
        answer, _ = begun(CHUNKED)
        for _ in range(4):
            await fill(answer)

    with pytest.raises(ProtocolError, match="chunks are not well-formed"):
        asyncio.run(read())

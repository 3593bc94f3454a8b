"""Connections from an event loop: to checked addresses, the first that takes one; secured where the URL says so."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from stager.model.urls import Url
from stager.transfer.aio_line import Line, PlainLine, TlsLine
from stager.transfer.reach import Place, Reach

MOST_RESOLVING = 32
"""Names that are resolved at once; one that nobody answers for takes some ten seconds."""
HEAD_START_SECONDS = 0.25
"""What an address has before the next one of the same host is tried too (RFC 8305)."""


class Connector:
    """Makes connections; in the loop's thread.

    Args:
        reach: where it may connect to.
        max_head_bytes: see `Line`.
    """

    def __init__(self, reach: Reach, max_head_bytes: int) -> None:
        self._reach = reach
        self._max_head_bytes = max_head_bytes
        # Of its own: the other threads are few, and names that resolve slowly would take all of them.
        self._threads = ThreadPoolExecutor(MOST_RESOLVING, "stager-resolve")

    async def connect(self, url: Url, context: ssl.SSLContext | None) -> Line:
        """A connection to the origin of `url`.

        Raises:
            RefusedError, OSError: as `Reach.places`; or none of them can be connected to, or not securely.
        """
        loop = asyncio.get_running_loop()
        if url.is_number:
            places = self._reach.places(url.host, url.port)  # resolves nothing
        else:
            places = await loop.run_in_executor(self._threads, self._reach.places, url.host, url.port)
        sock = await _first(places)
        try:
            if context is None:
                _, line = await loop.create_connection(partial(PlainLine, self._max_head_bytes), sock=sock)
                return line
            name = url.host.removeprefix("[").removesuffix("]")
            make = partial(TlsLine, self._max_head_bytes)
            _, secured = await loop.create_connection(make, sock=sock, ssl=context, server_hostname=name)
        except BaseException as error:
            sock.close()
            if isinstance(error, ConnectionResetError) and not error.args:  # asyncio says no more than that
                raise ConnectionResetError(
                    "the origin closed the connection before TLS was agreed on"
                ) from None
            raise
        return secured

    def close(self) -> None:
        """Resolve no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _first(places: Sequence[Place]) -> socket.socket:
    """Connected to the first of them that takes a connection."""
    left = deque(places)
    under_way: set[asyncio.Task[socket.socket]] = set()
    failed: BaseException = socket.gaierror(socket.EAI_NONAME, "it has no address")
    try:
        while left or under_way:
            if left:
                under_way.add(asyncio.create_task(_socket_to(left.popleft())))
            done, _ = await asyncio.wait(
                under_way,
                timeout=HEAD_START_SECONDS if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                under_way.discard(task)
                error = task.exception()
                if error is None:
                    return task.result()
                failed = error
        raise failed
    finally:
        for task in under_way:
            task.cancel()
            task.add_done_callback(_give_up)


def _give_up(task: asyncio.Task[socket.socket]) -> None:
    """Another one was quicker, or nobody waits any more."""
    with suppress(OSError, asyncio.CancelledError):
        task.result().close()


async def _socket_to(place: Place) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, place.address)
    except BaseException:
        sock.close()
        raise
    return sock

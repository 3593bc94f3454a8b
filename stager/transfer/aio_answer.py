"""An answer whose body is read in an event loop, and how it ended."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress

import aiohttp

from stager.errors import FetchError
from stager.model.urls import Url
from stager.transfer.asks import Filled
from stager.transfer.exchange import malformed
from stager.transfer.fields import Headers
from stager.transfer.patience import Patience
from stager.transfer.wire import NO_FIELDS, End

DRAIN_BYTES = 65_536
"""A body that nobody wants is read to its end up to this size, so that its connection can be kept."""
GATHER_SECONDS = 0.25
"""Longest that received bytes wait for more before they are written: many slow transfers share one thread."""
LOOK_SECONDS = 1.0
"""How often a silent connection is looked at: aiohttp does not tell the reader of a body of broken chunks."""


class ClientResponse(aiohttp.ClientResponse):
    """aiohttp's, which remembers its connection: it is needed when the connection has long been given back."""

    tls: ssl.SSLObject | None = None
    transport: asyncio.Transport | None = None

    async def start(self, connection: aiohttp.connector.Connection) -> ClientResponse:
        """Called by aiohttp when the request was sent."""
        self.transport = connection.transport
        if self.transport is not None:
            self.tls = self.transport.get_extra_info("ssl_object")
        await super().start(connection)
        return self


class AioAnswer:
    """See `Answer`.

    Args:
        response: its head is read.
        url: what was asked for.
        give_back: called in the loop's thread with response, URL and whether its body was touched.
    """

    def __init__(
        self,
        response: ClientResponse,
        url: Url,
        give_back: Callable[[ClientResponse, Url, bool], None],
    ) -> None:
        self.status = response.status
        self.headers = _joined(response.raw_headers)
        self.end: End | None = None
        self._loop = asyncio.get_running_loop()
        self._response = response
        self._content = response.content
        self._url = url
        self._give_back: Callable[[ClientResponse, Url, bool], None] | None = give_back
        self._touched = False
        self._broken = False
        if "transfer-encoding" in self.headers:
            self.headers.pop("content-length", None)
        self._chunked = "transfer-encoding" in self.headers
        self._framed = "content-length" in self.headers or self._chunked
        self._stuck = False  # when last looked at
        self._whole = self._all_here()
        self._look_for_end()

    @property
    def trailer(self) -> Headers:
        """See `Answer.trailer`: aiohttp reads it and shows it to nobody."""
        return NO_FIELDS

    def take(self) -> bytes | None:
        """See `Answer.take`; may be called in any thread, while no `fill` is under way."""
        whole, self._whole = self._whole, None
        if whole is not None:
            self._touched = True
            self.end = End.COMPLETE
        return whole

    async def fill(self, room: memoryview, patience: Patience, silence: float) -> Filled:
        """Read into `room` until it is full, the body ends, or it is time to do something else.

        That is after `silence` seconds without a byte, when `patience` is urged, and soon after bytes came.

        Raises:
            FetchError: the body's framing is broken. A connection that breaks is an `end`.
        """
        self._touched = True
        if self._whole is not None:
            return self._hand_out(self._whole, room)
        began = now = self._loop.time()
        filled = 0
        while self.end is None and filled < len(room):
            left = (GATHER_SECONDS if filled else silence) - (now - began)
            if left <= 0 or patience.urged:
                break
            data = await self._read(len(room) - filled, min(left, LOOK_SECONDS), patience)
            room[filled : filled + len(data)] = data
            filled += len(data)
            self._look_for_end()
            now = self._loop.time()
        return Filled(filled, now - began)

    def close(self) -> None:
        """See `Answer.close`; may be called in any thread, while no `fill` is under way."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            self._loop.call_soon_threadsafe(give_back, self._response, self._url, self._touched)

    async def _read(self, most: int, seconds: float, patience: Patience) -> bytes:
        try:
            if self._broken:
                return self._rest(most)
            async with patience.of(seconds):
                return await self._content.read(most)
        except TimeoutError:
            # aiohttp closes the connection after chunks that it can't read, and tells nobody. One that just
            # breaks looks the same for a moment, until the loop has told of it.
            before, self._stuck = self._stuck, self._is_stuck()
            if before and self._stuck:
                raise self._unreadable() from None
        except RuntimeError:  # it is closed, and nobody said why
            if self._is_stuck():
                raise self._unreadable() from None
            self._broken = True
            return self._rest(most)
        except aiohttp.ClientResponseError as error:
            raise malformed(self._url, error.message.splitlines()[0]) from None
        except (aiohttp.ClientError, OSError):
            # What arrived before is still there, but aiohttp gives it to nobody who was told of the error.
            self._content.set_exception(None)  # type: ignore[arg-type]
            self._broken = True
            return self._rest(most)
        return b""

    def _unreadable(self) -> FetchError:
        return malformed(self._url, "the body's chunks are not well-formed")

    def _is_stuck(self) -> bool:
        transport = self._response.transport
        closing = transport is None or transport.is_closing()
        return self._chunked and closing and not self._content.is_eof() and self._content.exception() is None

    def _all_here(self) -> bytes | None:
        """The body, if it came with the head, as that of nearly every small file does."""
        content = self._content
        if (
            "content-length" not in self.headers
            or not content.is_eof()
            or content.at_eof()
            or content.exception()
        ):
            return None
        return content.read_nowait()

    def _hand_out(self, whole: bytes, room: memoryview) -> Filled:
        count = min(len(whole), len(room))
        room[:count] = whole[:count]
        self._whole = whole[count:] or None
        if self._whole is None:
            self.end = End.COMPLETE
        return Filled(count, 0.0)

    def _rest(self, most: int) -> bytes:
        data = self._content.read_nowait(most)
        if not data:
            self.end = End.BROKEN
        return data

    def _look_for_end(self) -> None:
        if self.end is None and self._whole is None and self._content.at_eof() and not self._broken:
            if self._framed or self.status in {204, 304}:
                self.end = End.COMPLETE
            elif self._response.tls is None or _said_goodbye(self._response.tls):
                self.end = End.CLOSED
            else:
                self.end = End.BROKEN


def _said_goodbye(tls: ssl.SSLObject) -> bool:
    """Whether the other side ended TLS in order (close_notify); asked when the connection has ended."""
    with suppress(ssl.SSLZeroReturnError):
        try:
            return tls.read(1) == b""
        except ssl.SSLWantReadError:
            return False
    return True


def _joined(raw: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    """Fields as `fields.Headers` has them."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip(" \t")
        if name in headers:  # a cookie may have commas in it
            value = f"{headers[name]}\n{value}" if name == "set-cookie" else f"{headers[name]}, {value}"
        headers[name] = value
    return headers

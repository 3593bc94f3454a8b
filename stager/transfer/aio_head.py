"""How long the head of an answer may be, where aiohttp reads it."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp.client_proto import ResponseHandler

TOO_LONG = ("Got more than", "Too many headers")
"""How aiohttp begins to say that a field is too long, or that there are too many of them."""


class HeadTooLongError(Exception):
    """More bytes came than a head may have, and it is not over."""


class Handler(ResponseHandler):
    """aiohttp's protocol of a connection, which counts what comes until a head is there.

    aiohttp knows limits for a field and for the number of fields, so that a head may have their product; and none
    for interim answers (1xx), which may follow each other for ever.

    Args:
        max_head_bytes: of one answer, with the interim ones before it.
        loop: in which it is used.
    """

    def __init__(self, max_head_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._max_head_bytes = max_head_bytes
        self._left: int | None = None
        """Bytes that may come before the head is over; None: it is."""

    def set_response_params(self, **wanted: Any) -> None:
        """Called by aiohttp when a request is sent."""
        self._left = self._max_head_bytes
        super().set_response_params(**wanted)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Called by aiohttp's parser with each head."""
        message, _ = data
        if not 100 <= message.code < 200:  # noqa: PLR2004 - HTTP's own numbers
            self._left = None
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        super().data_received(data)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self._left = None
                self.set_exception(HeadTooLongError())
                if self.transport is not None:
                    self.transport.close()

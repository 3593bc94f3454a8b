"""How long a client may take to say what it wants."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11

from stager.server.sendfile import SendfileProtocol

log = logging.getLogger(__name__)

HEAD_SECONDS = 20.0
"""From the beginning of a connection, or of a further request on it, to the end of the request's head."""


class PatientProtocol(SendfileProtocol):
    """Closes a connection whose request does not come to the end of its head in time."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        is_within_head = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if is_within_head:
            self._wait_for_head()
        else:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _wait_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        log.info("a request of %s did not come within %g s", self.client and self.client[0], HEAD_SECONDS)
        self.transport.close()

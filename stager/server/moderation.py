"""Who guesses at tokens is soon told to wait: what he sends costs nothing then, and fills no log."""

from __future__ import annotations

import logging
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stager.errors import TooManyRequestsError
from stager.model.buckets import Buckets
from stager.server.origin import address_of, neighbourhood
from stager.server.problems import problem
from stager.server.who import PROTECTED

log = logging.getLogger(__name__)

GUESSES = 20
"""Wrong tokens from one address, at once."""
GUESSES_PER_SECOND = 0.2
"""And so many in the long run. Right ones are let in all the same: they can't be guessed, and a whole site may
share one address with whoever has a wrong one."""


class Moderation:
    """Answers 429 instead of 401 to an address that had too many of them of late.

    Args:
        app: takes the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._guesses = Buckets(GUESSES_PER_SECOND, GUESSES)
        self._told = Buckets(1 / 60.0, 1.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wait = 0.0

        async def answer(message: Message) -> None:
            nonlocal wait
            if message["type"] == "http.response.start" and message["status"] == 401:  # noqa: PLR2004
                wait = self._refused(scope)
            if not wait:
                await send(message)

        await self._app(scope, receive, answer)
        if wait:
            await problem(_too_many(wait))(scope, receive, send)

    def _refused(self, scope: Scope) -> float:
        """Seconds that who asks has to wait; 0.0: he is told that his token does not count."""
        address, now = neighbourhood(address_of(scope)), time.monotonic()
        in_a_form = not scope["path"].startswith(PROTECTED)
        shows_one = in_a_form or "authorization" in Headers(scope=scope)
        wait = self._guesses.take(address, now) if shows_one else 0.0
        if (wait or not shows_one) and self._told.take(address, now):
            scope.setdefault("state", {})["flood"] = (
                True  # one entry and one line a minute for each address are enough
            )
        elif wait:
            log.warning("%s sends wrong tokens and is told to wait", address)
        return wait


def _too_many(wait: float) -> TooManyRequestsError:
    return TooManyRequestsError(
        "too many wrong tokens came from that address",
        cause=f"after {GUESSES} at once there is one in {1 / GUESSES_PER_SECOND:.0f} s",
        remedy="correct the token, and wait",
        retry_after_seconds=wait,
    )

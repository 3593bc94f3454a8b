"""Who may ask at all: nothing that needs a token is looked at before that is known."""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stager.errors import AccessDeniedError, TooManyRequestsError
from stager.model.buckets import Buckets
from stager.model.principals import SERVER, Principal
from stager.server.authentication import Authentication
from stager.server.problems import problem
from stager.server.who import METRICS, PROTECTED

EVENT_STREAM = b"text/event-stream"
BURST_SECONDS = 4.0
"""Who has not asked for a while may ask for so many seconds' worth at once."""


class Gate:
    """Refuses requests without a token that counts; who asks is at ``scope["state"]["principal"]``.

    Args:
        app: takes what passes.
        authentication: says who it is.
        per_second: requests of one user in the long run; 0: no limit. The server's own token has none.
        metrics_open: whether figures are shown without a token.
    """

    def __init__(
        self,
        app: ASGIApp,
        authentication: Authentication,
        *,
        per_second: float = 0.0,
        metrics_open: bool = False,
    ) -> None:
        self._app = app
        self._protected = (PROTECTED + "/",) if metrics_open else (PROTECTED + "/", METRICS + "/")
        self._authentication = authentication
        self._rates = Buckets(per_second, BURST_SECONDS * per_second) if per_second else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not (scope["path"] + "/").startswith(self._protected):
            await self._app(scope, receive, send)
            return
        try:
            principal = await self._authentication.principal(scope, Headers(scope=scope))
        except AccessDeniedError as error:
            await problem(error, 401)(scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = principal
        if self._rates is not None and principal.name != SERVER:
            wait = self._rates.take(principal.name, time.monotonic())
            if wait:
                scope["state"]["flood"] = True
                await problem(_too_many(principal, wait))(scope, receive, send)
                return
        await self._app(scope, receive, self._ending(principal, send) if principal.token else send)

    def _ending(self, principal: Principal, send: Send) -> Send:
        """Ends a stream of events with the token that was shown for it: a file, once begun, is given to its end."""
        is_stream = ended = False

        async def answer(message: Message) -> None:
            nonlocal is_stream, ended
            if message["type"] == "http.response.start":
                is_stream = (b"content-type", EVENT_STREAM) in message.get("headers", ())
            elif is_stream and not ended and not self._authentication.still_counts(principal):
                ended = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            if not ended:
                await send(message)

        return answer


def _too_many(principal: Principal, wait: float) -> TooManyRequestsError:
    return TooManyRequestsError(
        f"{principal.name} asks too often",
        cause="whoever runs this site sets the limit (requests_per_second)",
        remedy="wait for what is to come (`?wait=`, events) instead of asking again and again",
        user=principal.name,
        retry_after_seconds=wait,
    )

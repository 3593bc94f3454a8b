"""Who may ask at all: nothing that needs a token is looked at before that is known."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from stager.errors import AccessDeniedError
from stager.server.authentication import Authentication
from stager.server.problems import problem
from stager.server.who import METRICS, PROTECTED


class Gate:
    """Refuses requests without a token that counts; who asks is at ``scope["state"]["principal"]``.

    Args:
        app: takes what passes.
        authentication: says who it is.
        metrics_open: whether figures are shown without a token.
    """

    def __init__(self, app: ASGIApp, authentication: Authentication, *, metrics_open: bool = False) -> None:
        self._app = app
        self._protected = (PROTECTED + "/",) if metrics_open else (PROTECTED + "/", METRICS + "/")
        self._authentication = authentication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not (scope["path"] + "/").startswith(self._protected):
            await self._app(scope, receive, send)
            return
        try:
            principal = self._authentication.principal(Headers(scope=scope))
        except AccessDeniedError as error:
            await problem(error, 401)(scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)

"""What came of each request, in figures."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stager import metrics as m
from stager.metrics import Metrics
from stager.server.who import PROTECTED

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Tracking:
    """The outermost of what a request passes.

    Args:
        app: takes the request.
        metrics: where figures are kept; None: nowhere.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics | None = None) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"], time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, answer)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        if self._metrics is None:
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = _route(scope)
        self._metrics.add(m.HTTP_REQUESTS, 1, method, route, str(status))
        if not _asks_to_wait(scope):
            self._metrics.observe(m.HTTP, seconds, method, route)


def _route(scope: Scope) -> str:
    """The route as it was declared: no id is in it."""
    declared: str = getattr(scope.get("route"), "path", "none")
    # some versions of FastAPI tell it without the prefix of the router that it is in
    below = scope["path"].startswith(PROTECTED + "/") and declared.startswith("/")
    return PROTECTED + declared if below and not declared.startswith(PROTECTED + "/") else declared


def _asks_to_wait(scope: Scope) -> bool:
    query: bytes = scope["query_string"]
    return b"wait=" in query

"""The way of each request: an id that follows it, a line in the log, figures."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stager import metrics as m
from stager.logs import bound
from stager.metrics import Metrics
from stager.server.who import PROTECTED

log = logging.getLogger(__name__)

HEADER = "X-Request-Id"
"""Names the request: in an answer always; in a request if who asks has a name for it already."""
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})
_FAULT = 500


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
        request_id = _id_of(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
                self._tell(scope, message["status"], time.perf_counter() - began)
            await send(message)

        with bound(request_id=request_id):
            await self._app(scope, receive, answer)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = _route(scope)
        if self._metrics is not None:
            self._metrics.add(m.HTTP_REQUESTS, 1, method, route, str(status))
            if not _asks_to_wait(scope):
                self._metrics.observe(m.HTTP, seconds, method, route)
        # What changes something is said, what looks is not: a page that is watched asks every second.
        level = logging.WARNING if status >= _FAULT else logging.DEBUG if method in _LOOKS else logging.INFO
        if log.isEnabledFor(level):
            path = scope["path"].encode("unicode_escape").decode()  # a line stays a line
            about = {"action": "request", "route": route, "status": status, "seconds": round(seconds, 4)}
            log.log(level, "%s %s %d", method, path, status, extra=about)


def _id_of(headers: Headers) -> str:
    """The id that whoever asks has given, if it is sane; else a new one."""
    given = headers.get(HEADER, "")
    if _ID.fullmatch(given):
        return given
    traced = _TRACE_PARENT.fullmatch(headers.get("traceparent", ""))
    return traced.group(1) if traced else uuid.uuid4().hex


def _route(scope: Scope) -> str:
    """The route as it was declared: no id is in it."""
    declared: str = getattr(scope.get("route"), "path", "none")
    # some versions of FastAPI tell it without the prefix of the router that it is in
    below = scope["path"].startswith(PROTECTED + "/") and declared.startswith("/")
    return PROTECTED + declared if below and not declared.startswith(PROTECTED + "/") else declared


def _asks_to_wait(scope: Scope) -> bool:
    query: bytes = scope["query_string"]
    return b"wait=" in query

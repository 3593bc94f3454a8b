"""What every request has to pass before anything of it is looked at."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stager.errors import AccessDeniedError, InputError, StagerError
from stager.model.principals import SERVER_TOKEN, Principal
from stager.server.problems import fault, problem

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 * 1024 * 1024
"""A thousand jobs with dozens of inputs each fit."""
TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes"
PROTECTED = "/v1"
"""All below needs the token."""
METRICS = "/metrics"
"""So does this, unless the site shows it to everybody."""


class Guard:
    """Refuses requests for other hosts, without the token, or with too large a body; answers for faults of ours.

    Who asks is at ``scope["state"]["principal"]`` for all below `PROTECTED`; see `stager.server.who`.

    Args:
        app: takes what passes.
        token: what ``Authorization: Bearer`` must carry below `PROTECTED`.
        hosts: names in ``Host`` that are served besides loopback addresses; any other is another
            site's page trying to reach this machine through its own name (DNS rebinding).
        metrics_open: whether figures are shown without the token.
    """

    def __init__(
        self, app: ASGIApp, token: str, hosts: Collection[str] = (), *, metrics_open: bool = False
    ) -> None:
        self._app = app
        self._protected = (PROTECTED + "/",) if metrics_open else (PROTECTED + "/", METRICS + "/")
        self._token = token.encode()
        self._hosts = frozenset({"localhost", *hosts})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        answered = False

        async def send_safely(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                elapsed = (time.monotonic() - began) * 1000
                log.debug("%s %s %d %.1f ms", scope["method"], scope["path"], message["status"], elapsed)
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await problem(*refusal)(scope, receive, send_safely)
            return
        try:
            bounded = receive if _is_streamed(scope) else _Bounded(receive)
            await self._app(scope, bounded, send_safely)
        except Exception:
            if answered:
                raise  # all that can be done is to break off
            log.exception("internal fault: %s %s", scope["method"], scope["path"])
            await problem(fault())(scope, receive, send_safely)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[StagerError, int] | None:
        path = scope["path"]
        host = headers.get("host", "")
        if not self._is_ours(host):
            error: StagerError = InputError(
                f"host {host!r} is not served here",
                cause="only this machine's own names are",
                remedy="use localhost",
            )
            return error, 421
        if (path + "/").startswith(self._protected):
            principal = self._principal(headers.get("authorization", ""))
            if principal is None:
                error = AccessDeniedError(
                    "the server did not accept the token",
                    cause="it is another's" if "authorization" in headers else "none was sent",
                    remedy="send `Authorization: Bearer` with the content of the server's token file",
                )
                return error, 401
            scope.setdefault("state", {})["principal"] = principal
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES and not _is_streamed(scope):
            return InputError(TOO_LARGE, remedy="submit the jobs in parts"), 413
        return None

    def _is_ours(self, host: str) -> bool:
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name.lower() in self._hosts:
            return True
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return False

    def _principal(self, authorization: str) -> Principal | None:
        kind, _, token = authorization.partition(" ")
        is_ours = kind.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)
        return SERVER_TOKEN if is_ours else None


def _is_streamed(scope: Scope) -> bool:
    """Whether the body goes to a file a block at a time, however large it is."""
    path: str = scope["path"]
    return scope["method"] == "PUT" and path.startswith(f"{PROTECTED}/cache/files/")


class _Bounded:
    """A body that ends in an error once it is too large."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = MAX_BODY_BYTES

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, TOO_LARGE)
        return message

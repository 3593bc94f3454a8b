"""What every request has to pass before anything of it is looked at."""

from __future__ import annotations

import logging
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stager.errors import InputError, StagerError
from stager.server.problems import fault, problem
from stager.server.who import PROTECTED

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 * 1024 * 1024
"""A thousand jobs with dozens of inputs each fit."""
TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes"


class Guard:
    """Refuses requests for other hosts or with too large a body; answers for faults of ours.

    Args:
        app: takes what passes.
        hosts: names in ``Host`` that are served besides loopback addresses; any other is another
            site's page trying to reach this machine through its own name (DNS rebinding).
        any_address: addresses of any kind are served too; no name leads a page to one.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = (), *, any_address: bool = False) -> None:
        self._app = app
        self._hosts = frozenset({"localhost", *(name.lower() for name in hosts)})
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = False

        async def send_safely(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Referrer-Policy", "no-referrer")
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
        host = headers.get("host", "")
        if not self._is_ours(host):
            error: StagerError = InputError(
                f"host {host!r} is not served here",
                cause="only this machine's own names are",
                remedy="use localhost, or name it in host_names",
            )
            return error, 421
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES and not _is_streamed(scope):
            return InputError(TOO_LARGE, remedy="submit the jobs in parts"), 413
        return None

    def _is_ours(self, host: str) -> bool:
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name.lower() in self._hosts:
            return True
        try:
            return ip_address(name).is_loopback or self._any_address
        except ValueError:
            return False


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

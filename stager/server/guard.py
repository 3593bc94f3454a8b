"""What every request has to pass before anything of it is looked at."""

from __future__ import annotations

import asyncio
import logging
import time
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
BODY_SECONDS = 60.0
"""In which a body has to come, unless it goes to a file."""
SILENCE_SECONDS = 30.0
"""Longest pause within any body."""
TOO_SLOW = "the body did not come in time"
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
            has_body = "content-length" in headers or "transfer-encoding" in headers
            bounded = _bounded(scope, receive) if has_body else receive
            await self._app(scope, bounded, send_safely)
        except Exception:
            if answered:
                raise  # all that can be done is to break off
            path = scope["path"].encode("unicode_escape").decode()  # a line stays a line
            log.exception("internal fault: %s %s", scope["method"], path)
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


def _bounded(scope: Scope, receive: Receive) -> Receive:
    if _is_streamed(scope):
        return _Bounded(receive, None, None)
    return _Bounded(receive, MAX_BODY_BYTES, BODY_SECONDS)


def _is_streamed(scope: Scope) -> bool:
    """Whether the body goes to a file a block at a time, however large it is."""
    path: str = scope["path"]
    return scope["method"] == "PUT" and path.startswith((f"{PROTECTED}/cache/files/", f"{PROTECTED}/runs/"))


class _Bounded:
    """A body that ends in an error once it is too large, or too slow.

    Args:
        receive: gives it.
        most: bytes that it may have; None: any number.
        seconds: in which all of it has to come; None: only each part of it.
    """

    def __init__(self, receive: Receive, most: int | None, seconds: float | None) -> None:
        self._receive = receive
        self._left = most
        self._until = None if seconds is None else time.monotonic() + seconds
        self._is_over = False

    async def __call__(self) -> Message:
        if self._is_over:  # what comes then is that the client leaves
            return await self._receive()
        patience = SILENCE_SECONDS
        if self._until is not None:
            patience = min(patience, max(0.0, self._until - time.monotonic()))
        try:
            async with asyncio.timeout(patience):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, TOO_SLOW, {"Connection": "close"}) from None
        self._is_over = not message.get("more_body", False)
        if self._left is not None:
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise HTTPException(413, TOO_LARGE)
        return message

"""Notes who did what: each request that changes something, reads somebody's bytes, or is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stager.model.audit import AuditEntry
from stager.model.principals import Principal
from stager.model.roles import RULES
from stager.server.origin import address_of

_DENIED = frozenset({401, 403, 429})


class Auditing:
    """Around everything that knows who asks; costs a request that is not noted a microsecond.

    Args:
        app: takes the request.
        note: takes an entry, at once.
    """

    def __init__(self, app: ASGIApp, note: Callable[[AuditEntry], None]) -> None:
        self._app = app
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                rule = RULES.get(state.get("action", ""))
                is_denied = status in _DENIED and "flood" not in state
                if (rule is not None and rule.is_audited) or "restricted" in state or is_denied:
                    self._note(_entry(scope, state, message, status))
            await send(message)

        await self._app(scope, receive, answer)


def _entry(scope: Scope, state: dict[str, Any], message: Message, status: int) -> AuditEntry:
    principal: Principal | None = state.get("principal")
    path: str = scope["path"]
    made = next((value.decode("latin-1") for name, value in message["headers"] if name == b"location"), "")
    return AuditEntry(
        "",
        time.time(),
        principal.name if principal else "",
        principal.role.value if principal else "",
        principal.token if principal else "",
        state.get("action", f"{scope['method']} /..."),
        state.get("subject", "") or made or path,
        status,
        state.get("request_id", ""),
        address_of(scope),
    )

"""Who asks, as the application behind the gate learns it."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from stager.model.principals import SERVER_TOKEN
from stager.server.authentication import Authentication
from stager.server.gate import Gate

TOKEN = "t" * 43


def asked(path: str, *headers: tuple[bytes, bytes]) -> tuple[list[Any], int]:
    """Whom the application took it from, once per call; and the status."""
    seen: list[Any] = []
    statuses: list[int] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(scope.get("state", {}).get("principal"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"localhost"), *headers]}
    asyncio.run(Gate(app, Authentication(TOKEN))(scope, receive, send))
    return seen, statuses[0]


def test_whoever_shows_the_servers_token_is_its_administrator() -> None:
    assert asked("/v1/jobs", (b"authorization", b"Bearer " + TOKEN.encode())) == ([SERVER_TOKEN], 200)
    assert SERVER_TOKEN.owner == ""


def test_whoever_shows_none_or_another_one_reaches_nothing_below_v1() -> None:
    assert asked("/v1/jobs") == ([], 401)
    assert asked("/v1/jobs", (b"authorization", b"Bearer x")) == ([], 401)
    assert asked("/healthz") == ([None], 200)

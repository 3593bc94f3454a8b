"""Who asks, for routes: ``def route(who: Who)``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from stager.model.principals import Principal


async def _principal(request: Request) -> Principal:  # async: it needs no thread
    found: Principal = request.scope["state"]["principal"]  # Guard put it there
    return found


Who = Annotated[Principal, Depends(_principal)]
"""The principal of the request; only for routes below `stager.server.guard.PROTECTED`."""

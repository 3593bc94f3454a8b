"""Who asks, and what he may do there, for routes: ``def route(who: Who, may: May)``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import Depends, Request

from stager.model.principals import Principal
from stager.model.roles import Permit, rule_of

PROTECTED = "/v1"
"""All below needs a token."""
METRICS = "/metrics"
"""So does this, unless the site shows it to everybody."""


async def _principal(request: Request) -> Principal:  # async: it needs no thread
    found: Principal = request.scope["state"]["principal"]  # the gate put it there
    return found


async def permit(request: Request) -> Permit:
    """What the principal may do by this call; every route below `PROTECTED` depends on it.

    Raises:
        ForbiddenError: nothing.
    """
    state = request.scope["state"]
    path: str = request.scope["route"].path_format
    method = "GET" if request.method == "HEAD" else request.method  # the same, without the bytes
    state["action"] = action = f"{method} {PROTECTED}{path.removeprefix(PROTECTED)}"
    return rule_of(action).permit(state["principal"])


async def _restricted(request: Request) -> Callable[[], None]:
    return partial(request.scope["state"].__setitem__, "restricted", True)


async def _about(request: Request) -> Callable[[str], None]:
    return partial(request.scope["state"].__setitem__, "subject")


Who = Annotated[Principal, Depends(_principal)]
"""The principal of the request; only for routes below `PROTECTED`."""
May = Annotated[Permit, Depends(permit)]
"""How far the call reaches: whose things there are for who asks, and whose is what he makes."""
About = Annotated[Callable[[str], None], Depends(_about)]
"""Says what a call was about, for the audit log, where its path does not: the id of what was made."""
Restricted = Annotated[Callable[[], None], Depends(_restricted)]
"""Says that what is given is not for everybody, so that the audit log has who got it."""

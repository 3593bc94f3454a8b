"""Login links for the page: who can show a token need not type it into a browser."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from stager.server.pages.sessions import LINK_SECONDS, Sessions
from stager.server.problems import described
from stager.server.who import Who


@dataclass(frozen=True)
class LoginLink:
    """Where a browser is logged in: a path of this server, good once and for so many seconds."""

    path: str
    seconds: float


def login_routes(sessions: Sessions) -> APIRouter:
    """The route ``/v1/logins``."""
    router = APIRouter(tags=["server"])

    @router.post("/logins", status_code=201, responses=described(), summary="Make a login link")
    def login_link(who: Who) -> LoginLink:
        """A link that logs a browser in to the page as whoever asks, once. Show it to nobody else."""
        return LoginLink(f"/login?once={sessions.link(who)}", LINK_SECONDS)

    return router

"""Logging in and out."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from stager.model.principals import Principal
from stager.server.pages.render import Renderer
from stager.server.pages.visits import (
    Sent,
    Visits,
    came_from_elsewhere,
    cookie_name,
    may_come_from_elsewhere,
    safe_target,
)


def entry_routes(
    visits: Visits, renderer: Renderer, principal_of: Callable[[str], Principal | None]
) -> APIRouter:
    """The routes ``/login`` and ``/logout``.

    Args:
        visits: who is logged in.
        renderer: of pages.
        principal_of: whose token that is; None: nobody's.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    async def login_form(request: Request, to: str = "/", once: str = "") -> Response:
        target = safe_target(to)
        if once and may_come_from_elsewhere(request):  # whoever made the link would choose as whom
            return renderer.page("login.html", request, None, to=target, trouble="", bounce=False, once=once)
        if once:
            return redeemed(request, once, target)
        if visits.known(request) is not None:
            return RedirectResponse(target, 303)
        bounce = came_from_elsewhere(request)
        return renderer.page("login.html", request, None, to=target, trouble="", bounce=bounce, once="")

    @router.post("/login")
    async def login(request: Request) -> Response:
        form = await visits.form(request)
        target = safe_target(form.get("to", "/"))
        if "once" in form:
            return redeemed(request, form["once"], target)
        principal = principal_of(form.get("token", "").strip())
        if principal is None:
            return refused(request, target, "token")
        return visits.let_in(request, principal, target)

    def redeemed(request: Request, once: str, target: str) -> Response:
        principal = visits.sessions.redeem(once)
        if principal is None:
            return refused(request, target, "old-link")
        return visits.let_in(request, principal, target)

    def refused(request: Request, target: str, trouble: str) -> Response:
        return renderer.page(
            "login.html", request, None, 401, to=target, trouble=trouble, bounce=False, once=""
        )

    @router.post("/logout")
    async def logout(request: Request, _: Sent) -> Response:
        name = cookie_name(request)
        visits.sessions.close(request.cookies.get(name, ""))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(
            name, path="/", secure=request.url.scheme == "https", httponly=True, samesite="strict"
        )
        return answer

    return router

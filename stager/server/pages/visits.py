"""Who looks at a page, and whether a form came from one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hmac import compare_digest
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlsplit

from fastapi import Depends, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from stager.errors import ForbiddenError
from stager.model.principals import Principal
from stager.model.roles import Permit, rule_of
from stager.server.pages.sessions import SESSION_SECONDS, Session, Sessions

LIVE = "x-live"
"""Header with which the script asks for the parts that move."""
FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 200
CSRF = "csrf"
"""Name of the field that shows that a form is ours."""


class LoginNeededError(Exception):
    """Nobody is logged in; answered with the way to the login."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is logged in.

    Attributes:
        session: who.
        state: of the request; what is asked is noted there, as for the calls of the API.
        form: what a form said that one of our pages sent; of several fields of one name the last.
    """

    session: Session
    state: dict[str, Any]
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def principal(self) -> Principal:
        """Who asks."""
        return self.session.principal

    def may(self, action: str) -> Permit:
        """How far a call of the API, such as ``GET /v1/jobs``, would reach: a page shows and does the same.

        Raises:
            ForbiddenError: it is not allowed.
        """
        self.state["action"] = action
        return self.reach(action)

    def reach(self, action: str) -> Permit:
        """The same, where it is not done yet: only looked at how it would be done.

        Raises:
            ForbiddenError: it is not allowed.
        """
        return rule_of(action).permit(self.principal)

    def can(self, action: str, owner: str | None = None) -> bool:
        """Whether a call is allowed (for what is that owner's), so that a page need not offer it in vain."""
        try:
            only = self.reach(action).only
        except ForbiddenError:
            return False
        return owner is None or only in {None, owner}


class Visits:
    """Finds the session of a request. The application has it at ``state.visits``.

    Args:
        sessions: all of them.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    def known(self, request: Request) -> Visit | None:
        """Who is logged in; None: nobody."""
        found = self.sessions.find(request.cookies.get(cookie_name(request), ""))
        if found is None:
            return None
        state = request.scope.setdefault("state", {})
        state["principal"] = found.principal
        return Visit(found, state)

    def visit(self, request: Request) -> Visit:
        """Who is logged in.

        Raises:
            LoginNeededError: nobody.
        """
        found = self.known(request)
        if found is None:
            raise LoginNeededError
        return found

    async def posted(self, request: Request) -> Visit:
        """What a form says, once it is known to be ours.

        Raises:
            LoginNeededError: nobody is logged in.
            HTTPException: 403, it came from somewhere else; 415, it is no form.
        """
        visit = self.visit(request)
        form = await self.form(request)
        shown = form.get(CSRF, "").encode()
        if not compare_digest(shown, visit.session.csrf.encode()):
            raise HTTPException(
                403, "the form is not one of this login: load the page again and send it from there"
            )
        return replace(visit, form=form)

    async def form(self, request: Request) -> Mapping[str, str]:
        """The fields of a form that was sent from a page of this server."""
        refuse_foreign(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
            raise HTTPException(415, f"a form is needed here ({FORM})")
        try:
            text = (await request.body()).decode("ascii")
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
        except ValueError:
            raise HTTPException(422, "the form can't be read") from None

    def let_in(self, request: Request, principal: Principal, target: str) -> Response:
        """Log a browser in and lead it on."""
        word = self.sessions.open(principal)
        answer = RedirectResponse(target, 303)
        answer.set_cookie(
            cookie_name(request),
            word,
            max_age=int(SESSION_SECONDS),
            path="/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer


async def _visitor(request: Request) -> Visit:  # async: it needs no thread
    visits: Visits = request.app.state.visits
    return visits.visit(request)


async def _sent(request: Request) -> Visit:
    visits: Visits = request.app.state.visits
    return await visits.posted(request)


Visitor = Annotated[Visit, Depends(_visitor)]
"""Who looks at a page: a dependency of every one."""
Sent = Annotated[Visit, Depends(_sent)]
"""A form: a dependency of every route that changes something."""


def cookie_name(request: Request) -> str:
    """One for each server of a host: browsers do not tell ports apart."""
    port = request.url.port or (443 if request.url.scheme == "https" else 80)
    return f"__Host-stager-{port}" if request.url.scheme == "https" else f"stager-{port}"


def refuse_foreign(request: Request) -> None:
    """Raise `HTTPException` (403) unless a page of this server sent the request."""
    site = request.headers.get("sec-fetch-site")
    if site is None:  # an old browser, or none at all
        origin = urlsplit(request.headers.get("origin", ""))
        is_ours = origin.netloc != "" and origin.netloc == request.headers.get("host", "")
    else:
        is_ours = site == "same-origin"
    if not is_ours:
        raise HTTPException(403, "the form was not sent by a page of this server: send it from there")


def came_from_elsewhere(request: Request) -> bool:
    """Whether a link of another site led here: then a browser holds back the cookie, once."""
    return request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}


def may_come_from_elsewhere(request: Request) -> bool:
    """The same, or nobody says: over plain HTTP browsers tell this machine alone."""
    return request.headers.get("sec-fetch-site") not in {"none", "same-origin"}


def to_login(request: Request) -> Response:
    """The way to the login and back; the script learns that its page has to be loaded anew."""
    if LIVE in request.headers:
        return Response(status_code=401)
    if request.method != "GET":
        return RedirectResponse("/login", 303)
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?to={quote(target, safe='')}", 303)


def safe_target(target: str) -> str:
    """`target` if it is a path of this server, else the first page."""
    is_path = (
        target.startswith("/") and not target.startswith(("//", "/\\", "/login")) and target.isprintable()
    )
    return target if is_path else "/"

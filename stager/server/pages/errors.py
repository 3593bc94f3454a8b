"""What goes wrong, as a page for whoever looks with a browser; programs get problem documents as ever."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from stager.errors import StagerError
from stager.server.pages.render import Renderer
from stager.server.pages.visits import LIVE, LoginNeededError, Visits, to_login
from stager.server.who import PROTECTED

Handler = Callable[[Request, Exception], Response | Awaitable[Response]]


def wants_page(request: Request) -> bool:
    """Whether a browser asks, and not for the API."""
    is_api = (request.url.path + "/").startswith(PROTECTED + "/")
    return not is_api and LIVE not in request.headers and "text/html" in request.headers.get("accept", "")


def install(app: FastAPI, visits: Visits, renderer: Renderer) -> None:
    """Let every problem of `app` be a page for browsers. To be called after `stager.server.problems.install`."""
    for kind in (StagerError, RequestValidationError, HTTPException, TimeoutError):
        app.add_exception_handler(kind, _as_page(app.exception_handlers[kind], visits, renderer))

    async def login_needed(request: Request, _: Exception) -> Response:
        return to_login(request)

    app.add_exception_handler(LoginNeededError, login_needed)


def _as_page(handler: Handler, visits: Visits, renderer: Renderer) -> Handler:
    async def told(request: Request, error: Exception) -> Response:
        answer = handler(request, error)
        if not isinstance(answer, Response):
            answer = await answer
        if not wants_page(request):
            return answer
        problem = json.loads(bytes(answer.body))
        back = urlsplit(request.headers.get("referer", ""))
        here = back.netloc == request.headers.get("host", "") and back.path != request.url.path
        return renderer.page(
            "error.html",
            request,
            visits.known(request),
            answer.status_code,
            problem=problem,
            back=back.path if here else "",
        )

    return told

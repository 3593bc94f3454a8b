"""From values to HTML: templates in which everything is escaped, and the headers that a page has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stager import __version__
from stager.clock import Clock
from stager.server.pages import words
from stager.server.pages.assets import FOLDER, Assets
from stager.server.pages.visits import LIVE, Visit

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Nothing but what this server serves; with no referrer at all a browser would not say where a form came from."""
Place = tuple[str, str]
"""Name and path of a page that the head of each leads to."""


class Renderer:
    """Renders pages.

    Args:
        assets: style and script.
        clock: the time, for ages.
        places: what the head of each page leads to.
        flower_url: address of Flower; empty: there is none.
    """

    def __init__(self, assets: Assets, clock: Clock, places: Sequence[Place], flower_url: str = "") -> None:
        self._clock = clock
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER.parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        words.install(self._templates)
        is_web = urlsplit(flower_url).scheme in {"http", "https"}
        self._templates.globals |= {
            "asset": assets.url,
            "version": __version__,
            "places": places,
            "flower_url": flower_url if is_web else "",
        }

    def page(
        self,
        template: str,
        request: Request,
        visit: Visit | None,
        status: int = 200,
        **values: Any,
    ) -> HTMLResponse:
        """A whole page; or, when the script asks for them, the parts of it that move."""
        text = self._templates.get_template(template).render(
            **values,
            now=self._clock.time(),
            path=request.url.path,
            session=None if visit is None else visit.session,
            base="live.html" if LIVE in request.headers else "base.html",
            can=_nothing if visit is None else visit.can,
            here=lambda **changes: _here(request, changes),
        )
        return HTMLResponse(text, status, HEADERS)


def _nothing(_action: str, _owner: str | None = None) -> bool:
    return False


def _here(request: Request, changes: Mapping[str, Any]) -> str:
    """The address of this page with other values in its query; None takes one away."""
    values = {name: value for name, value in request.query_params.multi_items() if name not in changes}
    kept = [(name, value) for name, value in values.items() if value]
    kept += [(name, str(value)) for name, value in changes.items() if value not in {None, ""}]
    return request.url.path + ("?" + urlencode(kept) if kept else "")

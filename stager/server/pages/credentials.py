"""Credentials: which are missing, which there are, and the form to give one. No page has a secret in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from stager.errors import InputError, StagerError
from stager.model.credential_scope import Scope
from stager.model.credentials import PARTS, SECRET_PARTS, Kind, NewCredential
from stager.model.flow import UnderWay
from stager.server.pages.render import Renderer
from stager.server.pages.visits import Sent, Visit, Visitor
from stager.service.credentials import CredentialService

LIST, ADD, REMOVE = "GET /v1/credentials", "POST /v1/credentials", "DELETE /v1/credentials/{word}"
LONG = frozenset({"certificate", "key"})
"""Parts that are pasted, of several lines."""


def credential_pages(
    renderer: Renderer, service: CredentialService, under_way: Callable[[], UnderWay]
) -> APIRouter:
    """Routes below ``/credentials``."""
    router = APIRouter(prefix="/credentials", include_in_schema=False)

    @router.get("")
    def show(
        request: Request,
        visit: Visitor,
        kind: Annotated[Kind, Query()] = Kind.BASIC,
        host: str = "",
        owner: str = "",
        given: str = "",
    ) -> Response:
        values = {"host": host, "owner": owner, "prefix": "/"}
        return page(request, visit, kind, values, given=given)

    def page(
        request: Request,
        visit: Visit,
        kind: Kind,
        values: Mapping[str, str],
        *,
        given: str = "",
        error: StagerError | None = None,
    ) -> Response:
        only = visit.may(LIST).only
        parts = PARTS[kind]
        found = under_way()
        return renderer.page(
            "credentials.html",
            request,
            visit,
            422 if error else 200,
            credentials=service.list(owner=only),
            wanted=(found if only is None else found.only(only)).wanted,
            only=only,
            kind=kind.value,
            kinds=[one.value for one in Kind],
            needed=[*parts.needed, parts.secret],
            optional=parts.optional,
            secrets=SECRET_PARTS,
            long=LONG,
            values=values,
            given=given,
            error=error,
        )

    @router.post("")
    def give(request: Request, sent: Sent) -> Response:
        may = sent.may(ADD)
        form = sent.form
        kind = Kind(form["kind"]) if form.get("kind") in set(Kind) else Kind.BASIC
        try:
            named = form.get("owner", "").strip()
            owner = named if may.only is None else may.owner(named)
            scope = Scope(
                form.get("host", "").strip(), form.get("prefix", "") or "/", owner, "allow_http" in form
            )
            found = {name: form[name] for name in PARTS[kind].names if form.get(name)}
            kept = service.add(NewCredential(scope, kind, found, _end(form.get("expires", ""))))
        except InputError as error:
            values = {name: value for name, value in form.items() if name not in SECRET_PARTS}
            return page(request, sent, kind, values, error=error)
        return RedirectResponse(f"/credentials?given={kept.id}", 303)

    @router.post("/{word}/remove")
    def remove(word: str, sent: Sent) -> Response:
        service.remove(word, sent.may(REMOVE).only)
        return RedirectResponse("/credentials", 303)

    return router


def _end(text: str) -> float | None:
    """The end of a day, in seconds since 1970 UTC."""
    if not text.strip():
        return None
    try:
        day = datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InputError(f"{text[:20]!r} is no day", remedy="write, for instance, 2027-01-31") from None
    return day.timestamp() + 86_400.0

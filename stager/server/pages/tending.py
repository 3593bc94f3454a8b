"""What operators do to the cache: purge, after a look at what would go, and verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from stager.errors import ConflictError, InputError
from stager.model.durations import parse_duration
from stager.model.eviction import Purge
from stager.model.sizes import parse_part, parse_rate, parse_size
from stager.model.verify import VerifyRequest
from stager.server.pages.errands import Errand, Errands
from stager.server.pages.render import Renderer
from stager.server.pages.visits import Sent, Visitor
from stager.service.cache_site import CacheSite

PURGE, VERIFY = "POST /v1/cache/purge", "POST /v1/cache/verify"
ASKED = ("older_than", "to_size", "to_free", "host", "owner", "urls", "file", "force")
"""Fields of the form for a purge; `file` is the digest of a key, which itself may have secrets in it."""


def tending_pages(renderer: Renderer, site: CacheSite, errands: Errands) -> APIRouter:
    """Routes below ``/cache/purge`` and ``/cache/verify``."""
    router = APIRouter(prefix="/cache", include_in_schema=False)

    @router.get("/purge")
    def show_purge(request: Request, visit: Visitor, run: str = "") -> Response:
        visit.reach(PURGE)
        errand = errands.find(run) if run else None
        values = {name: request.query_params.get(name, "") for name in ASKED}
        return renderer.page(
            "purge.html", request, visit, errand=errand, values=errand.asked if errand else values
        )

    @router.post("/purge")
    def purge(sent: Sent) -> Response:
        sent.may(PURGE)
        asked = {name: sent.form.get(name, "").strip() for name in ASKED}
        dry_run = "seen" not in sent.form
        if not dry_run:
            seen = errands.find(sent.form["seen"])
            if seen.asked != asked or seen.result is None or not seen.result.dry_run:
                raise ConflictError("that is not what was shown", remedy="look at what would go once more")
        keys = [site.files.key_of(asked["file"])] if asked["file"] else []
        work = site.eviction.purge(_purge(asked, keys, dry_run=dry_run))
        return _to(errands.begin("purge", asked, work))

    @router.get("/verify")
    def show_verify(request: Request, visit: Visitor) -> Response:
        visit.may("GET /v1/cache/verify")
        service = site.verification
        return renderer.page(
            "verify.html",
            request,
            visit,
            runs=service.is_running,
            report=service.last_verification(),
        )

    @router.post("/verify")
    def verify(sent: Sent) -> Response:
        sent.may(VERIFY)
        if site.verification.is_running:
            raise ConflictError("a verification runs already", remedy="wait for it to end")
        rate, sample = sent.form.get("rate", "").strip(), sent.form.get("sample", "").strip()
        request = VerifyRequest(
            bytes_per_second=parse_rate(rate) if rate else None,
            sample=parse_part(sample) if sample else 1.0,
            repair="repair" in sent.form,
        )
        errands.begin("verify", {}, site.verification.verify(request))
        return RedirectResponse("/cache/verify", 303)

    return router


def _to(errand: Errand) -> Response:
    return RedirectResponse(f"/cache/purge?run={errand.name}", 303)


def _purge(asked: Mapping[str, str], keys: Sequence[str], *, dry_run: bool) -> Purge:
    def number(name: str, parse: Any) -> Any:
        if not asked[name]:
            return None
        try:
            return parse(asked[name])
        except InputError as error:
            raise InputError(
                f"{name.replace('_', ' ')}: {error.what}", cause=error.cause, remedy=error.remedy
            ) from None

    return Purge(
        older_than=number("older_than", parse_duration),
        to_size=number("to_size", parse_size),
        to_free=number("to_free", parse_size),
        urls=(*asked["urls"].split(), *keys),
        host=asked["host"] or None,
        owner=asked["owner"] or None,
        force=bool(asked["force"]),
        dry_run=dry_run,
    )

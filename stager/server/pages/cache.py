"""The cache: plots of it, the table of its files, one file with who holds it; pins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from stager.clock import Clock
from stager.model.catalogue import Kind, Selection, Sort
from stager.model.durations import parse_duration
from stager.server.pages.plots import bars, course, treemap
from stager.server.pages.render import Renderer
from stager.server.pages.visits import Sent, Visitor
from stager.server.routes_cache import site_of
from stager.service.cache_reach import CacheReach
from stager.service.cache_site import CacheSite
from stager.service.flow import Flow
from stager.service.outlines import Outlines

FILES_AT_ONCE = 100
LIST = "GET /v1/cache/files"
SPANS = {"3h": (1, 180), "24h": (10, 144)}
"""What is shown of the past: minutes taken together, and how many such slots."""


@dataclass(frozen=True, slots=True)
class CacheShown:
    """What the pages of the cache are made of.

    Attributes:
        site: the cache.
        reach: what of it is there for whom.
        outlines: how much there is of what.
        flow: what came into it of late; None: nobody looked.
        clock: the time.
    """

    site: CacheSite
    reach: CacheReach
    outlines: Outlines
    flow: Flow | None
    clock: Clock


def cache_pages(renderer: Renderer, shown: CacheShown) -> APIRouter:
    """Routes below ``/cache``."""
    router = APIRouter(prefix="/cache", include_in_schema=False)
    files, pins = site_of(shown.site).files, shown.site.pins

    @router.get("")
    def show_cache(  # noqa: PLR0917 - each is a field of the form
        request: Request,
        visit: Visitor,
        sort: Sort = Sort.SIZE,
        reverse: bool = False,
        host: str = "",
        owner: str = "",
        kind: Annotated[str, Query(pattern=f"^({'|'.join(Kind)}|)$")] = "",
        unused: str = "",
        find: str = "",
        after: int | None = None,
        over: Annotated[str, Query(pattern=f"^({'|'.join(SPANS)})$")] = "3h",
    ) -> Response:
        may = visit.may(LIST)
        if find.strip():
            detail = shown.reach.show(files, find.strip(), may.only)
            return RedirectResponse(f"/cache/files/{detail.file.digest}", 303)
        whose = may.about(owner or None)
        since = shown.clock.time() - parse_duration(unused) if unused.strip() else None
        selection = Selection(host or None, whose, since, kind=Kind(kind) if kind else None)
        found, more = files.page(selection, sort, limit=FILES_AT_ONCE, after=after, reverse=reverse)
        outline = shown.outlines.of(Selection(owner=whose))
        totals = None if outline is None else outline.totals
        return renderer.page(
            "cache.html",
            request,
            visit,
            files=found,
            more=more,
            after=after,
            sort=sort.value,
            reverse=reverse,
            chosen={"host": host, "owner": owner, "kind": kind, "unused": unused},
            kinds=[one.value for one in Kind],
            outline=outline,
            tiles=treemap(totals.hosts) if totals else [],
            ages=bars(totals.ages) if totals else [],
            sizes=bars(totals.sizes) if totals else [],
            over=over,
            spans=list(SPANS),
            course=None if shown.flow is None else course(shown.flow.minutes(), *SPANS[over]),
        )

    @router.get("/files/{digest}")
    def show_file(digest: str, request: Request, visit: Visitor) -> Response:
        may = visit.may("GET /v1/cache/files/{word}")
        detail = shown.reach.show(files, files.key_of(digest), may.only)
        held = visit.can("GET /v1/cache/pins")
        return renderer.page(
            "file.html",
            request,
            visit,
            detail=detail,
            file=detail.file,
            pins=pins.pins(detail.file.key, visit.may("GET /v1/cache/pins").only) if held else [],
        )

    @router.post("/files/{digest}/pin")
    def pin(digest: str, sent: Sent) -> Response:
        may = sent.may("POST /v1/cache/pins")
        key = files.key_of(digest)
        shown.reach.check_pin(files, key, may.only)
        length = sent.form.get("for", "").strip()
        seconds = parse_duration(length) if length else None
        pins.pin(key, seconds, reason=sent.form.get("reason", "").strip(), owner=may.owner(None))
        return RedirectResponse(f"/cache/files/{digest}", 303)

    @router.post("/files/{digest}/unpin")
    def unpin(digest: str, sent: Sent) -> Response:
        pins.unpin(sent.form.get("pin", ""), sent.may("DELETE /v1/cache/pins/{word}").only)
        return RedirectResponse(f"/cache/files/{digest}", 303)

    return router

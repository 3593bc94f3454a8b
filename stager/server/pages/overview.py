"""The first page: everything at a glance."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from stager.server.pages.gauge import gauges
from stager.server.pages.render import Renderer
from stager.server.pages.visits import Visitor
from stager.service.overview import OverviewService
from stager.service.site import SiteService

JOBS = "GET /v1/jobs"
MOST_TRANSFERS = 20
"""Shown; the others are counted."""


def overview_routes(renderer: Renderer, overview: OverviewService, site: SiteService) -> APIRouter:
    """The routes ``/`` and ``/origins``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def show(request: Request, visit: Visitor) -> Response:
        found = overview.take(visit.may(JOBS).only)
        return renderer.page(
            "overview.html",
            request,
            visit,
            overview=found,
            site=site,
            transfers=found.under_way.transfers[:MOST_TRANSFERS],
            more_transfers=max(0, len(found.under_way.transfers) - MOST_TRANSFERS),
            gauges=gauges(found.limits),
        )

    @router.get("/origins")
    def show_origins(request: Request, visit: Visitor) -> Response:
        visit.may("GET /v1/origins")
        return renderer.page("origins.html", request, visit, overview=overview.take(visit.may(JOBS).only))

    return router

"""All pages, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import FastAPI

from stager.clock import Clock
from stager.model.eviction import LimitsView
from stager.model.flow import UnderWay
from stager.model.principals import Principal
from stager.server.bytes import NO_ACCELERATOR, Accelerator
from stager.server.pages import errors
from stager.server.pages.assets import Assets
from stager.server.pages.cache import CacheShown, cache_pages
from stager.server.pages.credentials import credential_pages
from stager.server.pages.entry import entry_routes
from stager.server.pages.errands import Errands
from stager.server.pages.jobs import job_pages
from stager.server.pages.overview import overview_routes
from stager.server.pages.render import Renderer
from stager.server.pages.sessions import Sessions
from stager.server.pages.tending import tending_pages
from stager.server.pages.visits import Visits
from stager.service.cache_reach import CacheReach
from stager.service.cache_site import CacheSite
from stager.service.credentials import CredentialService
from stager.service.flow import Flow
from stager.service.jobs import JobService
from stager.service.outlines import Outlines
from stager.service.overview import OverviewService
from stager.service.site import SiteService


@dataclass(frozen=True, slots=True)
class Shown:
    """What the pages show.

    Attributes:
        jobs: the jobs.
        site: workers, origins, the state of the cache.
        cache: the cache; None: this server has none.
        reach: what of the cache is there for whom.
        credentials: takes credentials; None: this server takes none.
        flow: what is being transferred, and what was of late; None: nobody looks.
        accelerator: sends files in place of the server.
    """

    jobs: JobService
    site: SiteService = field(default_factory=SiteService)
    cache: CacheSite | None = None
    reach: CacheReach = field(default_factory=lambda: CacheReach(None, None))
    credentials: CredentialService | None = None
    flow: Flow | None = None
    accelerator: Accelerator = NO_ACCELERATOR


def add_pages(
    app: FastAPI,
    shown: Shown,
    sessions: Sessions,
    principal_of: Callable[[str], Principal | None],
    clock: Clock,
) -> None:
    """Add all pages to the application. `principal_of` says whose token that is."""
    assets = Assets()
    places = [("Overview", "/"), ("Jobs", "/jobs")]
    if shown.cache is not None:
        places.append(("Cache", "/cache"))
    if shown.credentials is not None:
        places.append(("Credentials", "/credentials"))
    places.append(("Origins", "/origins"))
    renderer = Renderer(assets, clock, places, shown.site.flower_url)
    app.state.visits = visits = Visits(sessions)
    limits: Callable[[], LimitsView] | None = None if shown.cache is None else shown.cache.eviction.limits
    under_way = UnderWay if shown.flow is None else shown.flow.under_way
    overview = OverviewService(shown.jobs, shown.site, clock, under_way, limits)
    errors.install(app, visits, renderer)
    app.include_router(assets.routes())
    app.include_router(entry_routes(visits, renderer, principal_of))
    app.include_router(overview_routes(renderer, overview, shown.site))
    app.include_router(job_pages(renderer, shown.jobs, shown.accelerator))
    if shown.credentials is not None:
        app.include_router(credential_pages(renderer, shown.credentials, under_way))
    if shown.cache is not None:
        app.state.errands = errands = Errands()
        catalogue = shown.cache.catalogue
        outlines = Outlines(lambda chosen: catalogue.totals(clock.time(), chosen), clock)
        app.include_router(tending_pages(renderer, shown.cache, errands))
        app.include_router(
            cache_pages(renderer, CacheShown(shown.cache, shown.reach, outlines, shown.flow, clock))
        )

"""The application: routes, problems, guard, description."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Security
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer

from stager import __version__
from stager.clock import Clock, SystemClock
from stager.metrics import Metrics
from stager.server import problems
from stager.server.auditing import Auditing
from stager.server.authentication import Admittance, Authentication
from stager.server.bytes import NO_ACCELERATOR, Accelerator
from stager.server.following import Following
from stager.server.forwarded import Forwarded
from stager.server.gate import Gate
from stager.server.guard import Guard
from stager.server.moderation import Moderation
from stager.server.page import HEADERS, render
from stager.server.pages.routes import Shown, add_pages
from stager.server.pages.sessions import Sessions
from stager.server.routes_accounts import account_routes
from stager.server.routes_audit import audit_routes
from stager.server.routes_cache import cache_routes
from stager.server.routes_content import content_routes
from stager.server.routes_credentials import credential_routes
from stager.server.routes_events import event_routes
from stager.server.routes_files import file_routes
from stager.server.routes_grants import grant_routes
from stager.server.routes_jobs import job_routes
from stager.server.routes_logins import login_routes
from stager.server.routes_metrics import metrics_routes
from stager.server.routes_pins import pin_routes
from stager.server.routes_purge import purge_routes
from stager.server.routes_runs import run_routes
from stager.server.routes_site import health_routes, precondition_routes, status_routes
from stager.server.routes_stage import stage_routes
from stager.server.routes_verify import verify_routes
from stager.server.tracking import Tracking
from stager.server.waiting import Waiting
from stager.server.who import PROTECTED, permit
from stager.service.accounts import AccountService
from stager.service.audit import AuditLog
from stager.service.cache_reach import CacheReach
from stager.service.cache_site import CacheSite
from stager.service.credentials import CredentialService
from stager.service.events import EventService
from stager.service.flow import Flow
from stager.service.grants import GrantService
from stager.service.jobs import JobService
from stager.service.readiness import Readiness
from stager.service.repeats import Repeats
from stager.service.runs import RunService
from stager.service.site import SiteService
from stager.service.stage import StageService
from stager.service.uploads import UploadService

ABOUT = """Jobs and what they need: each input is fetched once, verified, and there before its job starts.

All below `/v1` needs a token, as `Authorization: Bearer TOKEN`. Times are seconds since 1970 UTC,
sizes are bytes. Every error is a problem document (RFC 9457) that names what, why and what to do."""


def create_app(
    jobs: JobService,
    token: str,
    *,
    hosts: Collection[str] = (),
    any_address: bool = False,
    clock: Clock | None = None,
    runs: RunService | None = None,
    uploads: UploadService | None = None,
    site: SiteService | None = None,
    cache: CacheSite | None = None,
    stages: StageService | None = None,
    credentials: CredentialService | None = None,
    grants: GrantService | None = None,
    accounts: AccountService | None = None,
    events: EventService | None = None,
    admittance: Admittance = Admittance(),  # noqa: B008 - frozen
    audit: AuditLog | None = None,
    repeats: Repeats | None = None,
    metrics: Metrics | None = None,
    metrics_open: bool = False,
    readiness: Readiness | None = None,
    accelerator: Accelerator = NO_ACCELERATOR,
    sessions: Sessions | None = None,
    flow: Flow | None = None,
) -> FastAPI:
    """The HTTP API of a job server.

    Args:
        jobs: does the work; its calls run in threads, never in the event loop.
        token: the server's own, which its administrator shows.
        hosts: names in ``Host`` that are served besides this machine's loopback names.
        any_address: addresses are served in ``Host`` too, not the loopback's alone.
        clock: for the uptime.
        runs: takes the reports of another job server; None: jobs are not handed to one.
        uploads: takes what nodes bring back that do not see the cache; None: there are none.
        site: knows of workers, origins and repairs; None: there are none.
        cache: the cache and what can be asked of it; None: it is another server's.
        stages: takes stage requests; None: it takes none.
        credentials: takes credentials; None: it takes none.
        grants: who has proved what; None: there are none.
        accounts: users and their tokens; None: whoever holds the server's token is the only one.
        events: what happens; None: it is not told.
        admittance: who may come in besides these, and how often anybody may.
        audit: who did what; None: it is not kept.
        repeats: knows calls that come twice; None: each one counts.
        metrics: figures of this process; None: it keeps none.
        metrics_open: whether they are shown without the token.
        readiness: asks the parts of the server; None: there is nobody to ask.
        accelerator: sends files in place of the server.
        sessions: who is logged in to the page; None: they are kept in memory alone.
        flow: what is being transferred, for the page; None: nobody looks.

    Returns:
        The application; ``app.state.waiting.close()`` answers all long polls at once, and ``app.state.following.close()`` ends all
        who follow events, for a quick end.
    """
    app = FastAPI(
        title="Stager",
        version=__version__,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.waiting = Waiting(jobs)
    app.state.following, app.state.repeats = Following(events), repeats
    problems.install(app)
    authentication = Authentication(token, accounts, admittance)
    app.add_middleware(
        Gate, authentication=authentication, per_second=admittance.per_second, metrics_open=metrics_open
    )
    app.add_middleware(Moderation)
    if audit is not None:
        app.add_middleware(Auditing, note=audit.note)
    app.add_middleware(Guard, hosts=hosts, any_address=any_address)
    app.add_middleware(Tracking, metrics=metrics)
    if admittance.proxies:
        app.add_middleware(Forwarded, networks=admittance.proxies)
    shown = HTTPBearer(
        auto_error=False, description="A token of yours, or the content of the server's token file."
    )  # the gate enforces it
    api = APIRouter(prefix=PROTECTED, dependencies=[Security(shown), Depends(permit)])
    api.include_router(job_routes(jobs, app.state.waiting))
    api.include_router(file_routes(jobs, accelerator))
    api.include_router(precondition_routes(jobs))
    api.include_router(event_routes(events, app.state.following))
    api.include_router(run_routes(runs, uploads))
    api.include_router(status_routes(jobs, site or SiteService(), clock or SystemClock()))
    reach = CacheReach(None if cache is None else cache.cache, grants)
    api.include_router(stage_routes(stages, app.state.waiting, reach))
    api.include_router(grant_routes(grants))
    api.include_router(pin_routes(cache, reach))
    api.include_router(verify_routes(cache))
    api.include_router(purge_routes(cache))
    api.include_router(content_routes(cache, reach, accelerator))
    api.include_router(cache_routes(cache, reach))
    api.include_router(credential_routes(credentials))
    api.include_router(account_routes(accounts))
    api.include_router(audit_routes(audit))
    if sessions is None:
        sessions = Sessions(clock or SystemClock(), still=accounts.still if accounts else lambda _: None)
    api.include_router(login_routes(sessions))
    app.include_router(api)
    app.include_router(health_routes(readiness))
    if metrics is not None:
        app.include_router(metrics_routes(metrics, shown))

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            schemas = described["components"]["schemas"]
            schemas["Problem"] = problems.Problem.model_json_schema()
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(render(openapi()), headers=HEADERS)

    pages = Shown(jobs, site or SiteService(), cache, reach, credentials, flow, accelerator)
    add_pages(app, pages, sessions, authentication.of_token, clock or SystemClock())
    return app

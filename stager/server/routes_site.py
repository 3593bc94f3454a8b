"""Preconditions by name, and how the server is."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from stager import __version__
from stager.clock import Clock
from stager.model.views import OriginView, PreconditionView, WorkersView
from stager.server.problems import described
from stager.service.cache_watch import CacheState
from stager.service.jobs import JobService
from stager.service.readiness import Readiness
from stager.service.site import SiteService


@dataclass(frozen=True)
class PreconditionList:
    """All preconditions that were met or that a job has named."""

    preconditions: list[PreconditionView]


@dataclass(frozen=True)
class Met:
    """Whether this request changed the precondition; false when it was as asked already."""

    name: str
    changed: bool


@dataclass(frozen=True)
class Status:
    """How the server is.

    `jobs` counts them by state; `farm` and `dispatch` say where fetches and jobs run; `repairs` counts what was
    found astray and put right since the start (there should be none); `cache` says whether the cache can be used.
    """

    version: str
    started_at: float
    uptime_seconds: float
    jobs: dict[str, int]
    farm: str
    dispatch: str
    repairs: dict[str, int]
    cache: CacheState | None = None


@dataclass(frozen=True)
class OriginList:
    """Origins that have work or had some lately."""

    origins: list[OriginView]


@dataclass(frozen=True)
class Health:
    """That the server answers."""

    status: str


def precondition_routes(jobs: JobService) -> APIRouter:
    """Routes below ``/v1/preconditions``."""
    router = APIRouter(prefix="/preconditions", tags=["preconditions"])

    @router.get("", responses=described(), summary="List preconditions")
    def preconditions() -> PreconditionList:
        """Preconditions by name, with the time at which each was met."""
        return PreconditionList(jobs.preconditions())

    @router.put("/{name}", responses=described(503), summary="Meet a precondition")
    def meet(name: str) -> Met:
        """Say that a precondition holds, now and for jobs to come."""
        return Met(name, jobs.meet(name))

    @router.delete("/{name}", responses=described(503), summary="Unmeet a precondition")
    def unmeet(name: str) -> Met:
        """Say that a precondition holds no more. Jobs that wait for it, or are ready and not handed over yet, wait.

        Those that were handed over have passed it and go on.
        """
        return Met(name, jobs.unmeet(name))

    return router


def status_routes(jobs: JobService, site: SiteService, clock: Clock) -> APIRouter:
    """The routes ``/v1/status``, ``/v1/workers`` and ``/v1/origins``."""
    router = APIRouter(tags=["server"])
    started_at, started = clock.time(), clock.monotonic()

    @router.get("/status", responses=described(), summary="How the server is")
    def status() -> Status:
        """Version, time since its start in seconds, number of jobs in each state, where fetches and jobs run."""
        uptime = round(clock.monotonic() - started, 3)
        repairs = dict(site.repairs())
        return Status(
            __version__,
            started_at,
            uptime,
            jobs.counts(),
            site.farm,
            site.dispatch,
            repairs,
            site.cache_state(),
        )

    @router.get("/workers", responses=described(503), summary="List workers")
    def list_workers() -> WorkersView:
        """The worker processes of a farm, and the address of its dashboard; none when all is done by the server."""
        return WorkersView(list(site.workers()), site.flower_url)

    @router.get("/origins", responses=described(503), summary="List origins")
    def list_origins() -> OriginList:
        """How many connections each origin is given now, and what made it fewer than are allowed."""
        return OriginList(list(site.origins()))

    return router


@dataclass(frozen=True)
class Ready:
    """That the server can do its work, and which parts were asked."""

    status: str
    parts: dict[str, str]


def health_routes(readiness: Readiness | None) -> APIRouter:
    """The routes ``/healthz`` and ``/readyz``, which need no token."""
    router = APIRouter(tags=["server"])

    @router.get("/healthz", summary="Whether the server answers")
    async def healthz() -> Health:
        """For supervisors."""
        return Health("ok")

    @router.get(
        "/readyz", responses={503: described(503)[503]}, summary="Whether the server can do its work now"
    )
    def readyz() -> Ready:
        """For what decides where requests go: database, cache, job mapper and Redis, if there is one, are asked.

        The problem says which of them is at fault.
        """
        return Ready("ok", {} if readiness is None else readiness.check())

    return router

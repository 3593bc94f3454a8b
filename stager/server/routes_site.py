"""Preconditions by name, and how the server is."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from stager import __version__
from stager.clock import Clock
from stager.model.views import PreconditionView, WorkersView
from stager.server.problems import described
from stager.service.jobs import JobService
from stager.service.workers import WorkerService


@dataclass(frozen=True)
class PreconditionList:
    """All preconditions that were met or that a job has named."""

    preconditions: list[PreconditionView]


@dataclass(frozen=True)
class Met:
    """Whether this request met the precondition; false when it was met already."""

    name: str
    changed: bool


@dataclass(frozen=True)
class Status:
    """How the server is. `jobs` counts them by state; `farm` and `dispatch` say where fetches and jobs run."""

    version: str
    started_at: float
    uptime_seconds: float
    jobs: dict[str, int]
    farm: str
    dispatch: str


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

    return router


def status_routes(jobs: JobService, workers: WorkerService, clock: Clock) -> APIRouter:
    """The routes ``/v1/status`` and ``/v1/workers``."""
    router = APIRouter(tags=["server"])
    started_at, started = clock.time(), clock.monotonic()

    @router.get("/status", responses=described(), summary="How the server is")
    def status() -> Status:
        """Version, time since its start in seconds, number of jobs in each state, where fetches and jobs run."""
        uptime = round(clock.monotonic() - started, 3)
        return Status(__version__, started_at, uptime, jobs.counts(), workers.farm, workers.dispatch)

    @router.get("/workers", responses=described(503), summary="List workers")
    def list_workers() -> WorkersView:
        """The worker processes of a farm, and the address of its dashboard; none when all is done by the server."""
        return WorkersView(list(workers.workers()), workers.flower_url)

    return router


def health_routes() -> APIRouter:
    """The route ``/healthz``, which needs no token."""
    router = APIRouter(tags=["server"])

    @router.get("/healthz", summary="Whether the server answers")
    async def healthz() -> Health:
        """For supervisors."""
        return Health("ok")

    return router

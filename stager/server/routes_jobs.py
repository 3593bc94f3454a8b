"""Jobs: submit, look, wait, cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from stager.logs import request_id
from stager.model.answered import Answered
from stager.model.jobs import JobState
from stager.model.views import JobDetail, JobView
from stager.server.once import MakesOnce, Note
from stager.server.problems import described
from stager.server.schemas import JobsIn, specs
from stager.server.waiting import LONGEST_SECONDS, Waiting
from stager.server.who import About, May
from stager.service.jobs import JobService

MOST_JOBS = 1000
"""Jobs in one answer."""


@dataclass(frozen=True)
class Submitted:
    """Ids of the jobs, in the order sent."""

    ids: list[str]


@dataclass(frozen=True)
class JobPage:
    """Jobs, newest first; with `next` as ``before`` come older ones (null: there are none)."""

    jobs: list[JobView]
    next: str | None


@dataclass(frozen=True)
class Cancelled:
    """Whether this request cancelled the job; false when it was cancelled already."""

    changed: bool


def job_routes(jobs: JobService, waiting: Waiting) -> APIRouter:
    """Routes below ``/v1/jobs``."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.post("", status_code=201, responses=described(409, 413, 503), summary="Submit jobs")
    def submit(
        body: Annotated[JobsIn, Body()], response: Response, may: May, about: About, once: MakesOnce
    ) -> Submitted:
        """Take in one job, or a list of jobs of which all or none are taken. What is answered survives any crash."""
        new = [replace(spec, owner=may.owner(spec.owner), request_id=request_id()) for spec in specs(body)]
        answer = once(Submitted, lambda note: Submitted(jobs.submit(new, _noting(note))))
        about(" ".join(answer.ids))
        if len(answer.ids) == 1:
            response.headers["Location"] = f"/v1/jobs/{answer.ids[0]}"
        return answer

    @router.get("", responses=described(), summary="List jobs")
    def list_jobs(
        may: May,
        state: Annotated[
            Sequence[JobState], Query(description="Only jobs in this state; may be repeated.")
        ] = (),
        limit: Annotated[int, Query(ge=1, le=MOST_JOBS)] = 100,
        before: Annotated[str | None, Query(description="Only jobs older than the one with this id.")] = None,
        owner: Annotated[str | None, Query(description="Only jobs of this owner.")] = None,
        name: Annotated[str | None, Query(description="Only jobs that are called so.")] = None,
        since: Annotated[
            float | None, Query(description="Only jobs submitted since then, seconds since 1970 UTC.")
        ] = None,
    ) -> JobPage:
        """Jobs, newest first, a page at a time."""
        about = may.about(owner)
        found = jobs.jobs(states=state, limit=limit, before=before, owner=about, name=name, since=since)
        return JobPage(found, found[-1].id if len(found) == limit else None)

    @router.get("/{job}", responses=described(404, 409), summary="Look at a job, or wait for it")
    async def job_detail(
        job: str,
        may: May,
        wait: Annotated[
            float,
            Query(ge=0, description=f"Seconds to wait until it is over, at most {LONGEST_SECONDS:.0f}."),
        ] = 0.0,
    ) -> JobDetail:
        """One job with all that belongs to it. `job` is its id, an ending of it, or the job's name."""
        return await waiting.until_over(job, wait, may.only)

    @router.post("/{job}/cancel", responses=described(404, 409), summary="Cancel a job")
    def cancel(job: str, may: May) -> Cancelled:
        """End a job that is not over; its process is ended too."""
        return Cancelled(jobs.cancel(job, may.only))

    @router.post(
        "/{job}/retry", status_code=201, responses=described(404, 409, 413, 503), summary="Retry a job"
    )
    def retry(job: str, response: Response, may: May, about: About, once: MakesOnce) -> Submitted:
        """Submit a job that failed or was cancelled anew, with the same description: a new job, with a new id."""
        answer = once(
            Submitted,
            lambda note: Submitted([jobs.retry(job, may.only, _noting(note), request_id=request_id())]),
        )
        about(f"{job[:80]}: {answer.ids[0]}")
        response.headers["Location"] = f"/v1/jobs/{answer.ids[0]}"
        return answer

    return router


def _noting(note: Note | None) -> Callable[[list[str]], Answered] | None:
    return None if note is None else lambda ids: note(Submitted(ids))

"""Jobs: the list, and one with its inputs, its history, what it printed and what it left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from stager.logs import request_id
from stager.model.jobs import JobState
from stager.server.bytes import Accelerator, AskedHeaders, bytes_answer
from stager.server.pages.history import history
from stager.server.pages.render import Renderer
from stager.server.pages.tail import tail
from stager.server.pages.visits import Sent, Visitor
from stager.server.routes_files import Stream, log_answer
from stager.service.jobs import JobService

JOBS_AT_ONCE = 50
INPUTS_AT_ONCE = 100
READ_LOG = "GET /v1/jobs/{job}/logs/{stream}"


def job_pages(renderer: Renderer, jobs: JobService, accelerator: Accelerator) -> APIRouter:
    """Routes below ``/jobs``."""
    router = APIRouter(prefix="/jobs", include_in_schema=False)

    @router.get("")
    def show_jobs(
        request: Request,
        visit: Visitor,
        state: Annotated[Sequence[JobState], Query()] = (),
        before: str | None = None,
        find: str = "",
    ) -> Response:
        only = visit.may("GET /v1/jobs").only
        if find.strip():
            return RedirectResponse(_address(jobs.find(find.strip(), only)), 303)
        found = jobs.jobs(states=state, limit=JOBS_AT_ONCE + 1, before=before or None, owner=only)
        return renderer.page(
            "jobs.html",
            request,
            visit,
            jobs=found[:JOBS_AT_ONCE],
            older=found[JOBS_AT_ONCE - 1].id if len(found) > JOBS_AT_ONCE else None,
            before=before,
            counts=jobs.counts(only),
            chosen=[one.value for one in state],
        )

    @router.get("/{job}")
    def show_job(
        job: str, request: Request, visit: Visitor, skip: Annotated[int, Query(ge=0)] = 0
    ) -> Response:
        found = jobs.job(job, visit.may("GET /v1/jobs/{job}").only)
        if found.id != job:  # an ending of the id, or the name
            return RedirectResponse(_address(found.id), 303)
        waiting = sorted(found.inputs, key=lambda item: item.state == "ready")
        reads = visit.can(READ_LOG, found.owner)
        return renderer.page(
            "job.html",
            request,
            visit,
            job=found,
            inputs=waiting[skip : skip + INPUTS_AT_ONCE],
            skip=skip,
            next_skip=skip + INPUTS_AT_ONCE if len(waiting) > skip + INPUTS_AT_ONCE else None,
            ready=sum(item.state == "ready" for item in found.inputs),
            history=history(found),
            logs=[tail(one.value, jobs.log_file(found.id, one)) for one in Stream] if reads else None,
            results=jobs.results(found.id) if found.results else [],
        )

    @router.get("/{job}/logs/{stream}")
    def log(job: str, stream: Stream, visit: Visitor) -> Response:
        return log_answer(jobs.log_file(job, stream, visit.may(READ_LOG).only))

    @router.get("/{job}/results/{name:path}")
    def result(job: str, name: str, asked: AskedHeaders, visit: Visitor) -> Response:
        only = visit.may("GET /v1/jobs/{job}/results/{name}").only
        found, file = jobs.open_result(job, name, only)
        return bytes_answer(asked, file, found.sha256, found.size, name=name, accelerator=accelerator)

    @router.post("/{job}/cancel")
    def cancel(job: str, sent: Sent) -> Response:
        jobs.cancel(job, sent.may("POST /v1/jobs/{job}/cancel").only)
        return RedirectResponse(_address(job), 303)

    @router.post("/{job}/retry")
    def retry(job: str, sent: Sent) -> Response:
        made = jobs.retry(job, sent.may("POST /v1/jobs/{job}/retry").only, request_id=request_id())
        return RedirectResponse(_address(made), 303)

    @router.post("/{job}/meet")
    def meet(job: str, sent: Sent) -> Response:
        sent.may("PUT /v1/preconditions/{name}")
        jobs.meet(sent.form.get("name", ""))
        return RedirectResponse(_address(job), 303)

    return router


def _address(job: str) -> str:
    return f"/jobs/{quote(job, safe='')}"

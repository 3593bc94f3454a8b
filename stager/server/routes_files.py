"""What jobs leave: what they printed, and their results."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Query, Response

from stager.model.views import ResultView
from stager.server.bytes import Accelerator, AskedHeaders, FileAnswer, bytes_answer
from stager.server.conditions import Span
from stager.server.problems import Answers, described
from stager.server.reading import OCTETS, REFUSALS
from stager.server.who import May
from stager.service.jobs import JobService


class Stream(StrEnum):
    """Where a job prints."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True)
class ResultList:
    """Files that a job left."""

    results: list[ResultView]


def file_routes(jobs: JobService, accelerator: Accelerator) -> APIRouter:
    """Routes below ``/v1/jobs/{job}``."""
    router = APIRouter(prefix="/jobs/{job}")
    text: Answers = {200: {"content": {"text/plain": {}}, "description": "The text."}}

    @router.get(
        "/logs/{stream}",
        response_class=Response,
        responses=text | described(404, 409),
        tags=["logs"],
        summary="What a job printed",
    )
    def log(
        job: str,
        stream: Stream,
        may: May,
        offset: Annotated[int, Query(ge=0, le=1 << 62, description="First byte to send.")] = 0,
    ) -> Response:
        """What the job has printed so far; empty before it starts."""
        return log_answer(jobs.log_file(job, stream, may.only), offset)

    @router.get("/results", responses=described(404, 409), tags=["results"], summary="List a job's results")
    def results(job: str, may: May) -> ResultList:
        """The files that the job left, with their digests; which are still there, until when, or why they went."""
        return ResultList(jobs.results(job, may.only))

    @router.delete("/results", responses=described(404, 409, 503), tags=["results"], summary="Remove results")
    def remove_results(job: str, may: May) -> ResultList:
        """Remove all that the job left, whatever was promised; what was there is returned."""
        return ResultList(jobs.remove_results(job, owner=may.only))

    @router.delete(
        "/results/{name:path}",
        responses=described(404, 409, 503),
        tags=["results"],
        summary="Remove a result",
    )
    def remove_result(job: str, name: str, may: May) -> ResultList:
        """Remove one file that the job left, whatever was promised."""
        return ResultList(jobs.remove_results(job, [name], may.only))

    answers = OCTETS | described(404, 409, 410, *REFUSALS)

    @router.head(
        "/results/{name:path}",
        response_class=Response,
        responses=answers,
        tags=["results"],
        summary="Look at a result",
    )
    @router.get(
        "/results/{name:path}",
        response_class=Response,
        responses=answers,
        tags=["results"],
        summary="Read a result",
    )
    def result(job: str, name: str, asked: AskedHeaders, may: May) -> Response:
        """The bytes of a result, or the parts that are asked for: they never change.

        `ETag` is its SHA-256; `Repr-Digest` says the same in its own way. 410 for one that is there no more.
        """
        found, file = jobs.open_result(job, name, may.only)
        return bytes_answer(asked, file, found.sha256, found.size, name=name, accelerator=accelerator)

    return router


def log_answer(path: Path, offset: int = 0) -> Response:
    """What a job has printed so far to a file that may not be there yet, from a byte on."""
    file: BinaryIO
    try:
        file = path.open("rb")
    except FileNotFoundError:
        file = BytesIO()
    size = file.seek(0, os.SEEK_END)
    return FileAnswer(file, [Span(min(offset, size), size)], "text/plain; charset=utf-8")

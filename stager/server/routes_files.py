"""What jobs leave: what they printed, and their results."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from stager.model.views import ResultView
from stager.server.problems import Answers, described
from stager.service.jobs import JobService

BLOCK_BYTES = 256 * 1024
"""Read and sent at once, whatever the size of the file."""


class Stream(StrEnum):
    """Where a job prints."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True)
class ResultList:
    """The files that a job left."""

    results: list[ResultView]


class FileAnswer(StreamingResponse):
    """The next `size` bytes of an open file, a block at a time; the file is closed at the end.

    Args:
        file: open for reading, at the first byte to send.
        size: bytes to send; the file has at least as many.
        media_type: of the answer.
        headers: more of them.
    """

    def __init__(
        self, file: BinaryIO, size: int, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._file = file
        self._size = size
        super().__init__(self._blocks(), headers=headers, media_type=media_type)
        self.headers["Content-Length"] = str(size)

    async def _blocks(self) -> AsyncIterator[bytes]:
        left = self._size
        while left and (block := await run_in_threadpool(self._file.read, min(BLOCK_BYTES, left))):
            left -= len(block)
            yield block

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        with self._file:
            await super().__call__(scope, receive, send)


def file_routes(jobs: JobService) -> APIRouter:
    """Routes below ``/v1/jobs/{job}``."""
    router = APIRouter(prefix="/jobs/{job}")
    octets: Answers = {200: {"content": {"application/octet-stream": {}}, "description": "The bytes."}}
    text: Answers = {200: {"content": {"text/plain": {}}, "description": "The text."}}

    @router.get(
        "/logs/{stream}",
        response_class=Response,
        responses=text | described(404, 409),
        tags=["logs"],
        summary="What a job printed",
    )
    def log(
        job: str, stream: Stream, offset: Annotated[int, Query(ge=0, description="First byte to send.")] = 0
    ) -> Response:
        """What the job has printed so far; empty before it starts."""
        file: BinaryIO
        try:
            file = jobs.log_file(job, stream).open("rb")
        except FileNotFoundError:
            file = BytesIO()
        size = file.seek(0, os.SEEK_END)
        first = min(offset, size)
        file.seek(first)
        return FileAnswer(file, size - first, "text/plain; charset=utf-8")

    @router.get("/results", responses=described(404, 409), tags=["results"], summary="List a job's results")
    def results(job: str) -> ResultList:
        """The files that the job left, with their digests."""
        return ResultList(jobs.results(job))

    @router.get(
        "/results/{name:path}",
        response_class=Response,
        responses=octets | described(404, 409),
        tags=["results"],
        summary="Read a result",
    )
    def result(job: str, name: str, if_none_match: Annotated[str, Header()] = "") -> Response:
        """The bytes of a result. `ETag` is its SHA-256; `Repr-Digest` says the same in its own way."""
        found, file = jobs.open_result(job, name)
        digest = base64.b64encode(bytes.fromhex(found.sha256)).decode()
        headers = {
            "ETag": f'"{found.sha256}"',
            "Repr-Digest": f"sha-256=:{digest}:",
            "Content-Disposition": "attachment",  # a page that a job wrote is not shown as one of ours
        }
        if headers["ETag"] in if_none_match:
            file.close()
            return Response(status_code=304, headers=headers)
        return FileAnswer(file, found.size, "application/octet-stream", headers)

    return router

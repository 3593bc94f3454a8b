"""What nodes that do not see the cache ask of the server, and bring back to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from stager.errors import ConflictError, InputError
from stager.model.uploads import Upload, Uploaded
from stager.server.problems import described
from stager.service.uploads import UploadService

TOGETHER_BYTES = 1 << 20
"""Taken together before they are written."""
Epoch = Annotated[int, InPath(ge=1)]
Digest = Annotated[str, Query(description="Of all of it.")]
Size = Annotated[int, Query(ge=0, le=1 << 62, description="Of all of it.")]


class ClaimIn(BaseModel):
    """Who wants a run."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    node: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$", description="Name of the node.")


@dataclass(frozen=True)
class Claimed:
    """Which node has a run; null: none yet."""

    node: str | None


def add_upload_routes(router: APIRouter, uploads: UploadService | None) -> None:
    """Routes below ``/v1/runs``."""

    @router.post("/{job}/{epoch}/claim", responses=described(404, 409, 503), summary="Take a run for a node")
    def claim(job: str, epoch: Epoch, body: ClaimIn) -> Claimed:
        """One node alone gets it; the answer says which. Asked again, the same node gets it again."""
        return Claimed(_there(uploads).claim(job, epoch, body.node))

    @router.get("/{job}/{epoch}/claim", responses=described(409, 503), summary="Which node has a run")
    def holder(job: str, epoch: Epoch) -> Claimed:
        """The node that took it."""
        return Claimed(_there(uploads).holder(job, epoch))

    @router.get(
        "/{job}/{epoch}/files/{name:path}",
        responses=described(404, 409, 503),
        summary="How much of a file has come",
    )
    def look(job: str, epoch: Epoch, name: str, sha256: Digest, size: Size) -> Uploaded:
        """Where the next part of a file begins that a node brings back."""
        return _there(uploads).look(Upload(job, epoch, name, sha256, size))

    @router.put(
        "/{job}/{epoch}/files/{name:path}",
        responses=described(404, 409, 503, 507),
        summary="Bring back a part of a file",
    )
    async def put(
        request: Request,
        job: str,
        epoch: Epoch,
        name: str,
        sha256: Digest,
        size: Size,
        offset: Annotated[int, Query(ge=0, le=1 << 62, description="Where the body begins in it.")],
        *,
        restricted: bool = False,
    ) -> Uploaded:
        """Take the body as the bytes from `offset` on. What came is kept when it breaks off.

        With the last byte the file is there, if it has the digest; `409` says where it goes on, if not at `offset`.
        """
        service, upload = _there(uploads), Upload(job, epoch, name, sha256, size, restricted)
        waiting = bytearray()
        at = offset
        try:
            async for block in request.stream():
                waiting += block
                if len(waiting) >= TOGETHER_BYTES:
                    at = (await run_in_threadpool(service.append, upload, at, [bytes(waiting)])).offset
                    waiting.clear()
        except ClientDisconnect:
            await run_in_threadpool(service.append, upload, at, [bytes(waiting)])
            raise InputError("the body broke off", remedy="ask where it goes on") from None
        return await run_in_threadpool(service.append, upload, at, [bytes(waiting)])


def _there(uploads: UploadService | None) -> UploadService:
    if uploads is None:
        raise ConflictError(
            "nothing is brought back to this server",
            cause="its jobs do not run on nodes of its own",
            remedy='set dispatch = "celery"',
        )
    return uploads

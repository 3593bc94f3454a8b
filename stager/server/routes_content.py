"""Bytes of cached files: in and out, never whole in memory."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from stager.errors import InputError
from stager.model.cache_views import Content
from stager.server.bytes import bytes_answer
from stager.server.problems import Answers, described
from stager.server.routes_cache import site_of
from stager.service.cache_site import CacheSite

TOGETHER_BYTES = 1 << 20
"""Taken together before they are written."""
_REPR_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]{1,100}):")


def content_routes(site: CacheSite | None) -> APIRouter:
    """Routes below ``/v1/cache``: bytes."""
    router = APIRouter(prefix="/cache", tags=["cache"])
    octets: Answers = {200: {"content": {"application/octet-stream": {}}, "description": "The bytes."}}

    @router.put(
        "/files/{key:path}", status_code=201, responses=described(409, 503, 507), summary="Put a file"
    )
    async def put(
        key: str,
        request: Request,
        owner: str = "",
        sha256: Annotated[str | None, Query(description="Digest that the body must have.")] = None,
        repr_digest: Annotated[str, Header(description="The same, as of RFC 9530.")] = "",
    ) -> Content:
        """Store the body as the key's file: whole, or, when it breaks off or is not what was announced, not at all."""
        expected = sha256 or _announced(repr_digest)
        content = site_of(site).content
        incoming = await run_in_threadpool(content.begin, key, sha256=expected, owner=owner)
        try:
            waiting = bytearray()
            async for block in request.stream():
                waiting += block
                if len(waiting) >= TOGETHER_BYTES:
                    await run_in_threadpool(incoming.write, bytes(waiting))
                    waiting.clear()
            await run_in_threadpool(incoming.write, bytes(waiting))
            return await run_in_threadpool(incoming.finish)
        except ClientDisconnect:
            raise InputError("the body broke off", remedy="send it again") from None
        finally:
            await run_in_threadpool(incoming.abort)

    @router.get(
        "/content/{key:path}",
        response_class=Response,
        responses=octets | described(404, 409, 416, 503),
        summary="Read a file",
    )
    def get(
        key: str,
        if_none_match: Annotated[str, Header()] = "",
        range_: Annotated[str, Header(alias="Range")] = "",
    ) -> Response:
        """The bytes of a file, or those from a first one on (`Range: bytes=N-`). `ETag` is its SHA-256."""
        found, file = site_of(site).content.open(key)
        return bytes_answer(file, found.sha256, found.size, if_none_match=if_none_match, range_=range_)

    return router


def _announced(repr_digest: str) -> str | None:
    """The SHA-256 that the header says; None when it says none."""
    found = _REPR_DIGEST.search(repr_digest)
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=True).hex()
    except binascii.Error:
        raise InputError("Repr-Digest can't be read", remedy="write sha-256=:BASE64:") from None

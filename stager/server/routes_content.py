"""Bytes of cached files: in and out, never whole in memory."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from stager.errors import InputError
from stager.model.cache_views import Content
from stager.server.bytes import Accelerator, AskedHeaders, bytes_answer
from stager.server.problems import described
from stager.server.reading import OCTETS, REFUSALS
from stager.server.routes_cache import site_of
from stager.server.who import May, Restricted
from stager.service.cache_reach import CacheReach
from stager.service.cache_site import CacheSite

TOGETHER_BYTES = 1 << 20
"""Taken together before they are written."""
_REPR_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]{1,100}):")


def content_routes(site: CacheSite | None, reach: CacheReach, accelerator: Accelerator) -> APIRouter:
    """Routes for bytes, by key and by digest."""
    router = APIRouter(tags=["cache"])

    @router.put(
        "/cache/files/{key:path}", status_code=201, responses=described(409, 503, 507), summary="Put a file"
    )
    async def put(
        key: str,
        request: Request,
        may: May,
        owner: str = "",
        sha256: Annotated[str | None, Query(description="Digest that the body must have.")] = None,
        repr_digest: Annotated[str, Header(description="The same, as of RFC 9530.")] = "",
    ) -> Content:
        """Store the body as the key's file: whole, or, when it breaks off or is not what was announced, not at all."""
        expected = sha256 or _announced(repr_digest)
        content = site_of(site).content
        await run_in_threadpool(reach.check_put, key, may.only)
        incoming = await run_in_threadpool(content.begin, key, sha256=expected, owner=may.owner(owner))
        try:
            waiting = bytearray()
            async for block in request.stream():
                waiting += block
                if len(waiting) >= TOGETHER_BYTES:
                    await run_in_threadpool(incoming.write, bytes(waiting))
                    waiting.clear()
            await run_in_threadpool(incoming.write, bytes(waiting))
            await run_in_threadpool(reach.check_put, key, may.only)  # somebody else may have been faster
            return await run_in_threadpool(incoming.finish)
        except ClientDisconnect:
            raise InputError("the body broke off", remedy="send it again") from None
        finally:
            await run_in_threadpool(incoming.abort)

    answers = OCTETS | described(404, 409, *REFUSALS, 503)

    @router.head(
        "/cache/content/{key:path}", response_class=Response, responses=answers, summary="Look at a file"
    )
    @router.get(
        "/cache/content/{key:path}", response_class=Response, responses=answers, summary="Read a file"
    )
    def get(key: str, asked: AskedHeaders, may: May, restricted: Restricted) -> Response:
        """The bytes of a key's file, or the parts that are asked for. `ETag` is its SHA-256: it tells when the key has another file."""
        found, file = reach.open(site_of(site).content, key, may.only, restricted)
        name = unquote(urlsplit(found.key).path) if "://" in found.key else found.key
        return bytes_answer(asked, file, found.sha256, found.size, name=name, accelerator=accelerator)

    @router.head(
        "/objects/{sha256}",
        response_class=Response,
        responses=answers,
        tags=["objects"],
        summary="Look at an object",
    )
    @router.get(
        "/objects/{sha256}",
        response_class=Response,
        responses=answers,
        tags=["objects"],
        summary="Read an object",
    )
    def get_object(sha256: str, asked: AskedHeaders, may: May, restricted: Restricted) -> Response:
        """The bytes with that SHA-256, or the parts that are asked for: they never change."""
        found, file = reach.open_object(site_of(site).content, sha256, may.only, restricted)
        return bytes_answer(asked, file, found.sha256, found.size, accelerator=accelerator)

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

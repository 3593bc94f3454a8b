"""What is in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from stager.errors import ConflictError
from stager.model.cache_views import CacheTotals, FileDetail, Listing
from stager.model.catalogue import Kind, Selection, Sort
from stager.server.lines import MEDIA_TYPE, LinesAnswer
from stager.server.problems import Answers, described
from stager.server.who import May
from stager.service.cache_reach import CacheReach
from stager.service.cache_site import CacheSite

MOST = 10_000
"""Files in one answer."""


Moment = Annotated[float | None, Query(description="Seconds since 1970 UTC.")]


class KeysIn(BaseModel):
    """Which keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    keys: Annotated[list[str], Field(max_length=MOST, description="Keys or URLs.")]


@dataclass(frozen=True)
class Missing:
    """Those that were not there."""

    missing: list[str]


def site_of(site: CacheSite | None) -> CacheSite:
    """The cache of this server.

    Raises:
        ConflictError: it looks after none.
    """
    if site is None:
        raise ConflictError("this server looks after no cache", remedy="ask the one that does")
    return site


def cache_routes(site: CacheSite | None, reach: CacheReach) -> APIRouter:
    """Routes below ``/v1/cache``: what there is."""
    router = APIRouter(prefix="/cache", tags=["cache"])
    lines: Answers = {200: {"content": {MEDIA_TYPE: {}}, "description": "How far it is."}}

    @router.get("/files", responses=described(409, 503), summary="List files")
    def ls(  # noqa: PLR0917 - each is a parameter of the query
        may: May,
        sort: Sort = Sort.SIZE,
        host: str | None = None,
        owner: str | None = None,
        unused_since: Moment = None,
        stored_before: Moment = None,
        kind: Kind | None = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
        offset: Annotated[int, Query(ge=0, le=1 << 62)] = 0,
    ) -> Listing:
        """Files of the cache in some order, from the catalogue: at once, however many there are."""
        selection = Selection(host, may.about(owner), unused_since, stored_before, kind)
        return site_of(site).files.ls(selection, sort, limit=limit, offset=offset)

    @router.get("/files/{word:path}", responses=described(404, 409, 503), summary="Show a file")
    def show(word: str, may: May) -> FileDetail:
        """One file by its key, its URL or (the beginning of) its SHA-256: where from, versions, who holds it."""
        return reach.show(site_of(site).files, word, may.only)

    @router.get("/totals", responses=described(409, 503), summary="How much there is")
    def totals(
        may: May,
        host: str | None = None,
        owner: str | None = None,
        kind: Kind | None = None,
    ) -> CacheTotals:
        """Totals by host, owner, age, size and kind, and the room on the file system."""
        return site_of(site).files.totals(Selection(host, may.about(owner), kind=kind))

    @router.post("/remove", responses=described(409, 503), summary="Remove files")
    def remove(body: KeysIn) -> Missing:
        """Forget keys; what jobs or pins hold they keep. Says which of them were not there."""
        return Missing(site_of(site).files.remove(body.keys))

    @router.post(
        "/rebuild",
        response_class=Response,
        responses=lines | described(409, 503),
        summary="Read the catalogue off the cache",
    )
    def rebuild() -> LinesAnswer:
        """One line of JSON after the other says how far it is; a client that leaves ends it."""
        return LinesAnswer(site_of(site).files.rebuild())

    return router

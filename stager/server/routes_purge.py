"""What goes: purges, and the limits that the keeper holds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from stager.model.eviction import LimitsView, Purge
from stager.server.lines import MEDIA_TYPE, LinesAnswer
from stager.server.problems import Answers, described
from stager.server.routes_cache import site_of
from stager.service.cache_site import CacheSite

MOST = 10_000
"""URLs in one purge."""
_Seconds = Annotated[float | None, Field(ge=0, strict=False)]
_Bytes = Annotated[int | None, Field(ge=0)]


class PurgeIn(BaseModel):
    """What is to go: what all of these choose together; null chooses nothing by itself."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    older_than: _Seconds = Field(
        default=None, description="Not used for so many seconds.", examples=[2592000]
    )
    to_size: _Bytes = Field(
        default=None, description="Until the cache holds no more than so many bytes.", examples=[None]
    )
    to_free: _Bytes = Field(
        default=None, description="Until so many bytes are free on its file system.", examples=[None]
    )
    urls: Annotated[list[str], Field(max_length=MOST)] = Field(default=[], description="These URLs or keys.")
    host: str | None = Field(default=None, description="From this host.", examples=["data.example.org"])
    owner: str | None = Field(default=None, description="Of this owner.", examples=[None])
    results_older_than: _Seconds = Field(
        default=None, description="Beside these: results stored so many seconds ago.", examples=[None]
    )
    force: bool = Field(
        default=False,
        description="Also what is protected or promised; keys are forgotten even if the bytes are held.",
    )
    dry_run: bool = Field(default=False, description="Only say what would go.")


def purge_routes(site: CacheSite | None) -> APIRouter:
    """The routes ``/v1/cache/purge`` and ``/v1/cache/limits``."""
    router = APIRouter(prefix="/cache", tags=["cache"])
    lines: Answers = {
        200: {"content": {MEDIA_TYPE: {}}, "description": "How far it is, then what it came to."}
    }

    @router.post(
        "/purge", response_class=Response, responses=lines | described(409, 422, 503), summary="Purge files"
    )
    def purge(body: PurgeIn) -> LinesAnswer:
        """Evict what is chosen, the longest unused first. What jobs or pins hold stays, and so does what is promised.

        One line of JSON after the other says how far it is; a client that leaves ends it.
        """
        wanted = Purge(**(body.model_dump() | {"urls": tuple(body.urls)}))
        return LinesAnswer(site_of(site).eviction.purge(wanted))

    @router.get("/limits", responses=described(409, 503), summary="The limits of the cache")
    def limits() -> LimitsView:
        """What the cache may hold, where it stands, what fetches wait for, and what was evicted last."""
        return site_of(site).eviction.limits()

    return router

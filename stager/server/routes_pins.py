"""Pins: files that stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from stager.model.pins import PinView
from stager.server.once import MakesOnce
from stager.server.problems import described
from stager.server.routes_cache import site_of
from stager.server.who import May
from stager.service.cache_reach import CacheReach
from stager.service.cache_site import CacheSite


class PinIn(BaseModel):
    """What is to stay, and for how long."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    file: str = Field(description="Key, URL or SHA-256.", examples=["https://example.org/run7.nxs"])
    seconds: float | None = Field(default=None, description="From now; null: for ever.", examples=[604800])
    reason: str = Field(default="", description="Why, for people.", examples=["for the paper"])
    owner: str = Field(default="", description="Who wants it.", examples=["ada"])


@dataclass(frozen=True)
class PinList:
    """Pins, the one that ends first before the others."""

    pins: list[PinView]


def pin_routes(site: CacheSite | None, reach: CacheReach) -> APIRouter:
    """Routes below ``/v1/cache/pins``."""
    router = APIRouter(prefix="/cache/pins", tags=["cache"])

    @router.get("", responses=described(409, 503), summary="List pins")
    def pins(
        may: May, file: Annotated[str | None, Query(description="Only those of this file.")] = None
    ) -> PinList:
        """Which files may not be evicted, who holds them, why, and until when."""
        return PinList(site_of(site).pins.pins(file, may.only))

    @router.post("", status_code=201, responses=described(404, 409, 503, 507), summary="Pin a file")
    def pin(body: PinIn, may: May, once: MakesOnce) -> PinView:
        """Let a file stay, whatever needs room. Pinning it again prolongs."""
        pins, owner = site_of(site).pins, may.owner(body.owner)
        reach.check_pin(site_of(site).files, body.file, may.only)
        return once(PinView, lambda _: pins.pin(body.file, body.seconds, reason=body.reason, owner=owner))

    @router.delete("/{word:path}", responses=described(404, 409, 503), summary="Unpin a file")
    def unpin(word: str, may: May) -> PinList:
        """Take one pin away, by its id, or all that people have of a file; they are returned."""
        return PinList(site_of(site).pins.unpin(word, may.only))

    return router

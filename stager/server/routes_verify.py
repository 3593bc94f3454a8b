"""Whether what is in the cache is what it should be; and what others used of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from stager.model.verify import VerifyReport, VerifyRequest
from stager.server.lines import LinesAnswer
from stager.server.problems import described
from stager.server.routes_cache import site_of
from stager.service.cache_site import CacheSite


class VerifyIn(BaseModel):
    """What is to be verified, and what to do with what is damaged."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    bytes_per_second: int | None = Field(
        default=None, description="At most so fast; null: as fast as can be."
    )
    sample: Annotated[float, Field(strict=False)] = Field(
        default=1.0, description="Part of the objects, drawn at random."
    )
    repair: bool = Field(
        default=False, description="Take damaged objects away, to be fetched anew, and clear up."
    )
    threads: int = Field(default=0, description="Objects read at once; 0: one per core.")
    anew: bool = Field(default=False, description="From the beginning, also if the last one was interrupted.")


class AccessesIn(BaseModel):
    """Keys that were used by those who may not write that down themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accesses: dict[str, float] = Field(
        description="SHA-256 of the key → when it was used, seconds since 1970 UTC; at most 10,000."
    )


@dataclass(frozen=True)
class Recorded:
    """Of how many keys the access was news: the others had one in the ten minutes before."""

    recorded: int


@dataclass(frozen=True)
class Verification:
    """The verification that runs, or the last one; null: there was none."""

    running: bool
    report: VerifyReport | None


def verify_routes(site: CacheSite | None) -> APIRouter:
    """The routes ``/v1/cache/verify`` and ``/v1/cache/accesses``."""
    router = APIRouter(prefix="/cache", tags=["cache"])

    @router.post(
        "/verify", responses=described(409, 503), summary="Verify the cache", response_class=LinesAnswer
    )
    def verify(body: VerifyIn) -> LinesAnswer:
        """Read objects again and compare them with their digests.

        Progress as JSON lines; an interrupted one is gone on with by the next.
        """
        return LinesAnswer(site_of(site).verification.verify(VerifyRequest(**body.model_dump())))

    @router.get("/verify", responses=described(409, 503), summary="The last verification")
    def last_verification() -> Verification:
        """How far the verification that runs is, or what the last one found."""
        service = site_of(site).verification
        return Verification(service.is_running, service.last_verification())

    @router.post("/accesses", responses=described(409, 503), summary="Report accesses")
    def report_accesses(body: AccessesIn) -> Recorded:
        """Say which keys were used: what can't be written down where it happened counts all the same."""
        return Recorded(site_of(site).accesses.report_accesses(body.accesses))

    return router

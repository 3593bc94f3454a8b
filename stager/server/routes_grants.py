"""Grants: who has proved that he may read what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query

from stager.errors import ConflictError
from stager.model.grants import GrantView
from stager.server.problems import described
from stager.server.who import May
from stager.service.grants import GrantService


@dataclass(frozen=True)
class GrantList:
    """Grants, the newest before the others."""

    grants: list[GrantView]


def grant_routes(grants: GrantService | None) -> APIRouter:
    """Routes below ``/v1/grants``."""
    router = APIRouter(prefix="/grants", tags=["grants"])

    def service() -> GrantService:
        if grants is None:
            raise ConflictError("this server has no grants", remedy="ask the job server")
        return grants

    @router.get("", responses=described(409), summary="List grants")
    def grants_(
        may: May,
        user: Annotated[str | None, Query(description="Only those of this user.")] = None,
    ) -> GrantList:
        """Who has proved that he may read which restricted file, and until when that is remembered."""
        return GrantList(service().held(may.about(user)))

    @router.delete("", responses=described(404, 409), summary="End grants")
    def revoke(
        may: May,
        grant: Annotated[
            list[str] | None, Query(description="Ids or URLs; all of the user if none is given.")
        ] = None,
        user: Annotated[str | None, Query(description="Only those of this user.")] = None,
    ) -> GrantList:
        """End grants; they are returned. Before the next job of that user starts the origin is asked again."""
        says_which = grant or user is not None
        return GrantList(service().revoke(grant or [], user=may.about(user) if says_which else None))

    return router

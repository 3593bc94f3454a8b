"""Who did what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query

from stager.errors import ConflictError
from stager.model.audit import AuditEntry
from stager.server.problems import described
from stager.service.audit import AuditLog

MOST = 1000
"""Entries in one answer."""


@dataclass(frozen=True)
class AuditPage:
    """Entries, newest first; with `next` as ``before`` come older ones (null: there are none)."""

    entries: list[AuditEntry]
    next: str | None


def audit_routes(audit: AuditLog | None) -> APIRouter:
    """The route ``/v1/audit``."""
    router = APIRouter(tags=["accounts"])

    @router.get("/audit", responses=described(409, 503), summary="Who did what")
    def entries(
        user: Annotated[
            str | None, Query(description="Only what this user did; empty: nobody known.")
        ] = None,
        since: Annotated[float | None, Query(description="Seconds since 1970 UTC.")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
        before: Annotated[str | None, Query(description="Only what is older than this entry.")] = None,
    ) -> AuditPage:
        """Requests that changed something, read somebody's bytes, or were refused; written about a second later."""
        if audit is None:
            raise ConflictError("this server keeps no audit log", remedy="ask the job server")
        found = audit.entries(limit=limit, before=before, who=user, since=since)
        return AuditPage(found, found[-1].id if len(found) == limit else None)

    return router

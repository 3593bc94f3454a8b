"""Calls about the audit log."""

from __future__ import annotations

from stager.client.shapes import views
from stager.client.talk import Group, M, Request, Talk, answered
from stager.model.audit import AuditEntry

MOST = 1000
"""Entries in one answer."""


class AuditCalls(Group[M]):
    """``client.audit``: who did what."""

    @answered
    def list(
        self, *, user: str | None = None, since: float | None = None, limit: int = 100
    ) -> Talk[list[AuditEntry]]:
        """Entries (of that user; from then on), newest first."""
        found: list[AuditEntry] = []
        before: str | None = None
        while len(found) < limit:
            query = {"user": user, "since": since, "limit": min(limit - len(found), MOST), "before": before}
            answer = yield Request("GET", "audit", query)
            found += views(AuditEntry, answer["entries"])
            before = answer["next"]
            if before is None:
                break
        return found

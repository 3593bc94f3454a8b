"""Calls about grants."""

from __future__ import annotations

from collections.abc import Sequence

from stager.client.shapes import views
from stager.client.talk import Group, M, Request, Talk, answered
from stager.model.grants import GrantView


class GrantCalls(Group[M]):
    """``client.grants``: who has proved that he may read what."""

    @answered
    def revoke(self, words: Sequence[str] = (), *, user: str | None = None) -> Talk[list[GrantView]]:
        """See `GrantService.revoke`."""
        query = {"grant": list(words), "user": user}
        return views(GrantView, (yield Request("DELETE", "grants", query))["grants"])

    @answered
    def list(self, user: str | None = None) -> Talk[list[GrantView]]:
        """See `GrantService.held`."""
        return views(GrantView, (yield Request("GET", "grants", {"user": user}))["grants"])

"""Calls about preconditions."""

from __future__ import annotations

from stager.client.shapes import views
from stager.client.talk import Group, M, Request, Talk, answered, part
from stager.model.views import PreconditionView


class PreconditionCalls(Group[M]):
    """``client.preconditions``: what jobs wait for by name."""

    @answered
    def list(self) -> Talk[list[PreconditionView]]:
        """All preconditions."""
        return views(PreconditionView, (yield Request("GET", "preconditions"))["preconditions"])

    @answered
    def unmeet(self, name: str) -> Talk[bool]:
        """Say that a precondition holds no more, for jobs that are not handed over yet; False when it did not."""
        return bool((yield Request("DELETE", f"preconditions/{part(name)}"))["changed"])

    @answered
    def meet(self, name: str) -> Talk[bool]:
        """Say that a precondition is met; False when it was already."""
        return bool((yield Request("PUT", f"preconditions/{part(name)}"))["changed"])

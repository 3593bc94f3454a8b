"""Calls about the server itself."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

from stager.client.shapes import view, views
from stager.client.talk import Group, M, Open, Request, Talk, answered
from stager.model.views import OriginView, WorkersView


class SiteCalls(Group[M]):
    """``client.site``: how the server is, who works for it, and whom it fetches from."""

    @answered
    def status(self) -> Talk[dict[str, Any]]:
        """Version, uptime and number of jobs by state."""
        found: dict[str, Any] = yield Request("GET", "status")
        return found

    @answered
    def clock(self) -> Talk[float | None]:
        """Seconds since 1970 UTC by the server's clock, in whole seconds; None: it does not say."""
        headers = yield Open(Request("GET", "status"))
        try:
            return parsedate_to_datetime(headers.get("date", "")).timestamp()
        except ValueError:
            return None

    @answered
    def workers(self) -> Talk[WorkersView]:
        """Who fetches files and runs jobs, where that is not the server itself."""
        return view(WorkersView, (yield Request("GET", "workers")))

    @answered
    def origins(self) -> Talk[list[OriginView]]:
        """Origins that have work or had some lately, and how they cope."""
        return views(OriginView, (yield Request("GET", "origins"))["origins"])

    @answered
    def login_link(self) -> Talk[str]:
        """The path of a link that logs a browser in to the server's page, once and soon; a secret until it is used."""
        return str((yield Request("POST", "logins"))["path"])

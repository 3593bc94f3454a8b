"""``stager audit``: who did what."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson


def audit(
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Only what this user did.", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Not older than: 12h, 7d.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show who did what, newest first: what changed something, read somebody's bytes, or was refused."""
    from dataclasses import asdict

    from stager.cli.connect import connected
    from stager.model.durations import parse_duration

    earliest = None if since is None else time.time() - parse_duration(since)
    with connected() as client:
        found = client.audit.list(user=user, since=earliest, limit=limit)
    if as_json:
        for one in found:
            output.json_line(asdict(one))
        return
    output.table(
        ("when", "who", "what", "about", "status", "from", "request"),
        (
            (
                output.moment(one.at), one.who or "-", one.action, one.subject, str(one.status), one.address,
                one.request,
            )
            for one in found
        ),
    )  # fmt: skip

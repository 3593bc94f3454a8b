"""``stager origins``: how the servers behind the URLs cope."""

from __future__ import annotations

from stager.cli import output
from stager.cli.options import AsJson


def origins(as_json: AsJson = False) -> None:
    """List origins that have work or had some lately, with the connections that each is given now.

    An origin in trouble (429, 503, broken connections) is given fewer, and more again as it recovers.
    """
    from dataclasses import asdict

    from stager.cli.connect import connected

    with connected() as client:
        found = client.site.origins()
    if as_json:
        for one in found:
            output.json_line(asdict(one))
        return
    output.table(
        ("origin", "limit", "of", "busy", "waiting", "good", "bad", "paused until", "last trouble"),
        (
            (
                *(one.origin, str(one.limit), str(one.maximum), str(one.in_flight), str(one.waiting)),
                *(str(one.recent_successes), str(one.recent_failures)),
                *(output.moment(one.paused_until) if one.paused_until else "", one.last_error),
            )
            for one in found
        ),
        right=("limit", "of", "busy", "waiting", "good", "bad"),
    )
    if not found:
        output.note("no origin has work")

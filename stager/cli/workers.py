"""``stager workers``: who fetches files and runs jobs for the server."""

from __future__ import annotations

from stager.cli import output
from stager.cli.options import AsJson


def workers(as_json: AsJson = False) -> None:
    """List the worker processes of the server's farm."""
    from dataclasses import asdict

    from stager.cli.connect import connected

    with connected() as client:
        found = client.site.workers()
    if as_json:
        for one in found.workers:
            output.json_line(asdict(one))
        return
    output.table(
        ("name", "node", "queues", "pid", "threads", "busy", "version", "since"),
        (
            (
                *(one.name, one.node, ",".join(one.queues), str(one.pid), str(one.threads), str(one.busy)),
                *(one.version, output.moment(one.started_at)),
            )
            for one in found.workers
        ),
        right=("pid", "threads", "busy"),
    )
    if not found.workers:
        output.note("no workers")
    if found.flower_url:
        output.note(f"dashboard at {found.flower_url}")
